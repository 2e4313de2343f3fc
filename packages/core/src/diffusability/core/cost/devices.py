"""Peak rates and memory of devices, of which an estimate assumes a share. Free of torch."""

import math
from collections.abc import Mapping

import attrs

from diffusability.core.errors import SpecError, nearest


@attrs.frozen(kw_only=True)
class Device:
    """What a rank computes on.

    Attributes:
        label: its name in tables.
        unit: of time on it, such as GPU hours.
        low_flops_per_s: largest rate of matrix products in bfloat16 or float16, dense, accumulated in float32.
        single_flops_per_s: largest rate in float32, without TF32.
        memory_bytes: memory that a rank has; None where that depends on the machine.
    """

    label: str
    unit: str
    low_flops_per_s: float
    single_flops_per_s: float
    memory_bytes: int | None


#: By the vendors' data sheets (NVIDIA A100 80GB SXM, H100 SXM, H200 SXM: rates without sparsity). The CPU is one core
#: with two 512-bit units of fused multiply-adds at 3 GHz, 2 x 16 x 2 x 3e9, and no faster in low precision.
DEVICES: Mapping[str, Device] = {
    "a100": Device(
        label="A100",
        unit="GPU-hours",
        low_flops_per_s=312e12,
        single_flops_per_s=19.5e12,
        memory_bytes=80 * 10**9,
    ),
    "h100": Device(
        label="H100", unit="GPU-hours", low_flops_per_s=989e12, single_flops_per_s=67e12, memory_bytes=80 * 10**9
    ),
    "h200": Device(
        label="H200", unit="GPU-hours", low_flops_per_s=989e12, single_flops_per_s=67e12, memory_bytes=141 * 10**9
    ),
    "cpu": Device(
        label="CPU core",
        unit="core-hours",
        low_flops_per_s=0.192e12,
        single_flops_per_s=0.192e12,
        memory_bytes=None,
    ),
}


def device_named(name: str) -> Device:
    """The device of a name, or one of the user's own: ``name:TFLOPS,GB/s,GB``.

    TFLOPS: of dense products in bfloat16, and taken for float32 too. GB/s: of its memory; estimates count operations
    alone and do not use it. GB: of memory, in units of 10^9 bytes.

    Raises:
        SpecError: it is unknown, or its numbers are not three positive ones.
    """
    label, colon, numbers = name.partition(":")
    if colon:
        return _own_device(name, label.strip(), numbers)
    if name not in DEVICES:
        raise SpecError(
            f"unknown device {name!r}; {nearest(name, list(DEVICES))}known: {', '.join(DEVICES)}; or one of your own,"
            " 'name:TFLOPS,GB/s,GB'"
        )
    return DEVICES[name]


def _own_device(given: str, label: str, numbers: str) -> Device:
    try:
        teraflops, bandwidth, memory = (float(number) for number in numbers.split(","))
    except ValueError:
        teraflops = bandwidth = memory = math.nan
    if not label or not all(0 < number < math.inf for number in (teraflops, bandwidth, memory)):
        raise SpecError(
            f"--gpu {given!r} is not of the form 'name:TFLOPS,GB/s,GB' with three positive numbers, such as"
            " 'mi300x:1307,5300,192'"
        )
    rate = teraflops * 1e12
    return Device(
        label=label,
        unit="GPU-hours",
        low_flops_per_s=rate,
        single_flops_per_s=rate,
        memory_bytes=round(memory * 10**9),
    )
