"""What the precision ``auto`` comes to, and what is said of bf16 without instructions for it."""

import pytest
import torch

from diffusability.core.numerics import precision
from diffusability.core.numerics.precision import autocast_dtype, multiplies_bf16, resolve_precision

#: Instructions of CPUs, as torch names them, and whether they multiply matrices of bf16.
CPUS = {
    "AVX2": ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
    "AVX-512 of 2017": ({"avx512_f": True, "avx512_vnni": True, "avx512_bf16": False}, False),
    "AVX-512 with bf16": ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
    "AMX": ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": True}, True),
    "ARM with bf16": ({"neon": True, "bf16": True}, True),
    "ARM without": ({"neon": True, "bf16": False}, False),
}


@pytest.fixture
def fresh():
    """Forgets what was found of this machine, before and after."""
    multiplies_bf16.cache_clear()
    yield
    multiplies_bf16.cache_clear()


@pytest.mark.parametrize("name", CPUS)
def test_auto_is_bf16_where_the_cpu_multiplies_it(name, fresh, monkeypatch):
    """The capabilities that torch would report, and the dtype of autocast."""
    capabilities, has = CPUS[name]
    monkeypatch.setattr(torch._C._cpu, "_get_cpu_capability", lambda: capabilities, raising=False)
    assert resolve_precision("auto", "cpu") == ("bf16" if has else "fp32")
    assert autocast_dtype("auto", "cpu") == (torch.bfloat16 if has else None)


@pytest.mark.parametrize("emulates", [True, False])
def test_auto_on_gpus(emulates, fresh, monkeypatch):
    """A GPU that would emulate bf16 computes in float32."""

    def supported(including_emulation=True):
        return including_emulation or not emulates

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolve_precision("auto", "cuda") == ("fp32" if emulates else "bf16")


def test_a_precision_that_is_named_stays(monkeypatch):
    """Also where the device is slow at it."""
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: False)
    named = ("fp32", "bf16", "bf16-weights", "fp16")
    assert [resolve_precision(word, "cpu") for word in named] == list(named)
    assert [autocast_dtype(word, "cpu") for word in named] == [None, torch.bfloat16, torch.bfloat16, torch.float16]
