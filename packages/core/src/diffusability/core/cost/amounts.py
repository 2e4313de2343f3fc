"""Amounts of computation and memory. Free of torch."""

import attrs

from diffusability.core.cost.devices import Device


@attrs.frozen(kw_only=True)
class Flops:
    """Floating-point operations; a multiply-add counts as two.

    Attributes:
        low: of products in bfloat16 or float16.
        single: of products in float32 or more.
    """

    low: float = 0.0
    single: float = 0.0

    @property
    def total(self) -> float:
        """The sum over all precisions."""
        return self.low + self.single

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(low=self.low + other.low, single=self.single + other.single)

    def __mul__(self, count: float) -> "Flops":
        return Flops(low=self.low * count, single=self.single * count)

    def hours(self, device: Device, utilisation: float) -> float:
        """Hours on one device at a share of its peak."""
        seconds = self.low / device.low_flops_per_s + self.single / device.single_flops_per_s
        return seconds / utilisation / 3600


@attrs.frozen(kw_only=True)
class StageCost:
    """What a stage costs, as far as can be predicted before it runs.

    Attributes:
        flops: of all ranks together; None when they are not known.
        flops_per_sample: of one image, where how many there are is what is not known.
        memory_bytes: largest amount on one rank at a time: weights, optimizer, averages, activations and temporaries,
            without what libraries keep for themselves; None when it is not known.
        num_parameters: parameters that training updates, a discriminator's among them.
        notes: what the numbers leave out, which makes them lower bounds, or why they are not known.
    """

    flops: Flops | None = None
    flops_per_sample: Flops | None = None
    memory_bytes: int | None = None
    num_parameters: int | None = None
    notes: tuple[str, ...] = ()


class UnknownCost(Exception):
    """Raised when a cost cannot be predicted. Says why."""
