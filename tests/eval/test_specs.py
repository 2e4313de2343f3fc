import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from diffusability.core.contracts.evaluator import Evaluator
from diffusability.core.plugins import registry
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.eval.specs import spectra as specs

KINDS = {
    "psnr": specs.PSNRSpec,
    "ssim": specs.SSIMSpec,
    "kl-per-dim": specs.KLPerDimSpec,
    "dct-spectrum": specs.DCTSpectrumSpec,
    "chop-off": specs.ChopOffSpec,
    "sliced-wasserstein": specs.SlicedWassersteinSpec,
}


def test_specs_are_read_without_torch() -> None:
    """A fresh interpreter's loaded modules after importing every module of specs: no torch, no matplotlib, no network's
    library."""
    code = """
import importlib, pkgutil, sys
import diffusability.eval as package
names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
specs = [name for name in names if name.endswith(("_spec", "specs"))]
assert len(specs) > 10
for name in specs:
    importlib.import_module(name)
sys.exit(bool({"torch", "matplotlib", "timm", "transformers", "torch_fidelity"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_found_and_built(kind: str) -> None:
    """Each kind through the plugin door, by its kind alone; what it builds needs what its spec says."""
    assert registry.load("evaluators", kind, EvaluatorSpec) is KINDS[kind]
    spec = EvaluatorSpec.model_validate({"kind": kind})
    evaluator = spec.build(BuildContext())
    assert isinstance(evaluator, Evaluator)
    assert evaluator.needs == spec.needs
    assert evaluator.needs


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"kind": "dct-spectrum", "block_size": 3}, ("block_size",)),
        ({"kind": "chop-off", "shares": [0.5, 0.25]}, ("shares",)),
        ({"kind": "chop-off", "shares": [1.0]}, ("shares",)),
        ({"kind": "chop-off", "shares": []}, ("shares",)),
        ({"kind": "chop-off", "shares": [1.0, 0.5, 0.5]}, ("shares",)),
        ({"kind": "chop-off", "shares": [1.0, 0.0]}, ("shares", 1)),
        ({"kind": "chop-off", "shares": [1.0, 1.5]}, ("shares", 1)),
        ({"kind": "chop-off", "shape": "round"}, ("shape",)),
        ({"kind": "chop-off", "max_psnr": 0}, ("max_psnr",)),
        ({"kind": "sliced-wasserstein", "num_samples": 1000, "max_patches": 999}, ("max_patches",)),
        ({"kind": "psnr", "data_range": 1}, ("data_range",)),
    ],
)
def test_mistakes_are_reported_at_their_place(spec: dict[str, Any], path: tuple[str | int, ...]) -> None:
    """The path of the one error of each wrong spec."""
    with pytest.raises(ValidationError) as caught:
        EvaluatorSpec.model_validate(spec)
    assert [error["loc"] for error in caught.value.errors()] == [path]


def test_patches_of_an_image_are_limited_by_the_memory_of_the_set() -> None:
    """The paper's 128 where there is room, fewer for more images, at least 1."""
    resolved = [
        specs.SlicedWassersteinSpec(num_samples=count).resolved_patches_per_image() for count in (100, 1024, 32768)
    ]
    assert resolved == [128, 32, 1]
