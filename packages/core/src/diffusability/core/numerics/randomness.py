"""Randomness that depends on the seed, the step and a sample's place in the global batch, and on nothing else.

Not on the number of ranks, the micro batch, or what was drawn before: so runs on different numbers of processes see
the same noise, and a resumed run needs no generator state.
"""

from collections.abc import Sequence

import attrs
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffusability.core.numerics.seeds import derived_seed


def sent(values: Tensor, device: torch.device | str) -> Tensor:
    """Values on a device. To a GPU they are copied from pinned memory, so that the host does not wait for the copy,
    nor for the work that the GPU has before it.
    """
    if values.device.type == "cpu" and torch.device(device).type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


@attrs.frozen(kw_only=True, eq=False)
class BatchRandomness:
    """Random draws for the samples of one batch, each from its own stream.

    Attributes:
        seed: seed of the stage.
        step: optimizer step, from 0; the samples of all micro batches of a step share it.
        positions: the place of each sample in the step's global batch.
    """

    seed: int
    step: int
    positions: Sequence[int]

    def _generators(self, name: str) -> list[torch.Generator]:
        return [
            torch.Generator().manual_seed(derived_seed(self.seed, name, self.step, position))
            for position in self.positions
        ]

    def normal(self, name: str, shape: Sequence[int], device: torch.device | str = "cpu") -> Float[Tensor, "b ..."]:
        """Standard normal noise of ``shape`` (without the batch axis) for each sample."""
        draws = [torch.randn(tuple(shape), generator=generator) for generator in self._generators(name)]
        return sent(torch.stack(draws), device)

    def uniform(self, name: str, device: torch.device | str = "cpu") -> Float[Tensor, " b"]:
        """One uniform number in [0, 1) for each sample."""
        draws = [torch.rand((), generator=generator) for generator in self._generators(name)]
        return sent(torch.stack(draws), device)

    def integers(self, name: str, high: int, device: torch.device | str = "cpu") -> Int[Tensor, " b"]:
        """One integer in [0, high) for each sample."""
        draws = [torch.randint(high, (), generator=generator) for generator in self._generators(name)]
        return sent(torch.stack(draws), device)

    def choice(self, name: str, count: int) -> int:
        """One integer in [0, count) for the whole step: equal on all ranks and in all micro batches."""
        return derived_seed(self.seed, "step", name, self.step) % count

    def fraction(self, name: str) -> float:
        """One uniform number in [0, 1) for the whole step: equal on all ranks and in all micro batches."""
        return derived_seed(self.seed, "step", name, self.step) / 2**63
