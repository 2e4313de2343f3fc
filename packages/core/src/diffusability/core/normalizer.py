"""The one object that scales latents on their way to a denoiser and back."""

from typing import Any

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor, nn

from diffusability.core.posterior import Posterior
from diffusability.core.shapes import Latents


class LatentNormalizer(nn.Module):
    """Per-channel affine map to zero mean and unit standard deviation: ``(z - mean) / std``.

    The statistics are buffers, so that they travel with every checkpoint and export of what owns them. Nothing else in
    the product scales latents.
    """

    mean: Tensor
    std: Tensor

    @jaxtyped(typechecker=beartype)
    def __init__(self, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
        super().__init__()
        if not bool((std > 0).all()):
            raise ValueError(f"standard deviations must be positive, got {std.tolist()}")
        self.register_buffer("mean", mean.detach().clone().float())
        self.register_buffer("std", std.detach().clone().float())

    @classmethod
    def identity(cls, channels: int) -> "LatentNormalizer":
        """The map that changes nothing."""
        return cls(torch.zeros(channels), torch.ones(channels))

    def _shaped(self, values: Tensor, like: Latents) -> Tensor:
        return values.to(like.dtype).view(1, -1, *[1] * (like.ndim - 2))

    def normalize(self, latents: Latents) -> Latents:
        """Raw latents to normalised ones."""
        return (latents - self._shaped(self.mean, latents)) / self._shaped(self.std, latents)

    def denormalize(self, normalized: Latents) -> Latents:
        """Normalised latents to raw ones, as the decoder takes them."""
        return normalized * self._shaped(self.std, normalized) + self._shaped(self.mean, normalized)


class ChannelStatistics:
    """Streaming mean and standard deviation per channel, in float64."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sum = torch.zeros(channels, dtype=torch.float64)
        self.sum_of_squares = torch.zeros(channels, dtype=torch.float64)

    def update(self, posterior: Posterior) -> None:
        """Adds a batch of posteriors: the moments are those of samples from them, without drawing any."""
        mean = posterior.mean.detach().double().cpu().transpose(0, 1).flatten(1)
        second = mean.square()
        if posterior.logvar is not None:
            second = second + posterior.logvar.detach().double().cpu().transpose(0, 1).flatten(1).exp()
        self.count += mean.shape[1]
        self.sum += mean.sum(1)
        self.sum_of_squares += second.sum(1)

    def merge(self, other: "ChannelStatistics") -> None:
        """Adds what another one has seen."""
        self.count += other.count
        self.sum += other.sum
        self.sum_of_squares += other.sum_of_squares

    def state(self) -> dict[str, Any]:
        """Plain data that ``from_state`` reads."""
        return {"count": self.count, "sum": self.sum.tolist(), "sum_of_squares": self.sum_of_squares.tolist()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "ChannelStatistics":
        """The inverse of ``state``."""
        statistics = cls(len(state["sum"]))
        statistics.count = state["count"]
        statistics.sum = torch.tensor(state["sum"], dtype=torch.float64)
        statistics.sum_of_squares = torch.tensor(state["sum_of_squares"], dtype=torch.float64)
        return statistics

    def normalizer(self) -> LatentNormalizer:
        """The normaliser to these statistics; a constant channel is only shifted."""
        mean = self.sum / max(self.count, 1)
        std = (self.sum_of_squares / max(self.count, 1) - mean.square()).clamp_min(0).sqrt()
        return LatentNormalizer(mean, torch.where(std > 1e-6, std, torch.ones_like(std)))
