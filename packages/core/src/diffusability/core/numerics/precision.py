"""The arithmetic that a precision means on a device."""

from functools import cache

import torch

_AUTOCAST = {"bf16": torch.bfloat16, "bf16-weights": torch.bfloat16, "fp16": torch.float16}

#: What torch calls a CPU's instructions for products of bf16 matrices: of x86 and of ARM.
_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


@cache
def multiplies_bf16(device_type: str) -> bool:
    """Whether devices of a type multiply bf16 matrices by instructions made for it.

    CPUs without them take longer for it than for float32, some kernels more than ten times. Where there is no GPU, as
    when the cost on one is estimated, GPUs are taken to have them.
    """
    if device_type == "cuda":
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
    has = getattr(torch._C._cpu, "_get_cpu_capability", None)
    if has is None:  # torch before 2.10
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    capabilities = has()
    return any(capabilities.get(name, False) for name in _CPU_INSTRUCTIONS)


def resolve_precision(precision: str, device_type: str) -> str:
    """What ``auto`` means on a device: ``bf16`` where it multiplies in it, else ``fp32``; others as they are."""
    if precision != "auto":
        return precision
    return "bf16" if multiplies_bf16(device_type) else "fp32"


def autocast_dtype(precision: str, device_type: str) -> torch.dtype | None:
    """The dtype of autocast at a precision on a device, or None for float32."""
    return _AUTOCAST.get(resolve_precision(precision, device_type))
