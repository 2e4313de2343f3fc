"""The one object that scales latents on their way to a denoiser and back, and the type that marks scaled ones."""

from typing import Any

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor, nn

from diffusability.core.contracts.posterior import Posterior
from diffusability.core.numerics.axes import per_channel
from diffusability.core.shapes import Latents


class NormalizedLatents(Tensor):
    """Latents as a denoiser takes them. Behaves as a tensor; what is computed from it is a plain tensor again.

    The type is what keeps latents from being normalised twice, cached in place of raw ones, or decoded as they are.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


def refuse_normalized(latents: Tensor, what: str) -> None:
    """Raises TypeError when latents are normalised ones; ``what`` says what was about to be done with them."""
    if isinstance(latents, NormalizedLatents):
        raise TypeError(f"{what} takes raw latents, and these are normalised already; denormalise them first")


class LatentNormalizer(nn.Module):
    """Affine map of each channel to zero mean and unit standard deviation: ``(z - mean) / std``.

    The statistics are buffers, so that they travel with every checkpoint and export of what owns them. Nothing else in
    the product scales latents. A few video autoencoders publish statistics of each channel at each latent frame: mean
    and std are then ``c t``, and clips of at most t latent frames can be normalised. Representation autoencoders scale
    each channel at each place: mean and std then have the shape ``c *t h w`` of the latents, which must be of that
    size.

    Raises:
        ValueError: a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    @jaxtyped(typechecker=beartype)
    def __init__(self, mean: Float[Tensor, "c *s"], std: Float[Tensor, "c *s"]) -> None:  # noqa: F821
        super().__init__()
        if not bool((std > 0).all()):
            raise ValueError(f"standard deviations must be positive, got {std.flatten()[:8].tolist()}")
        self.register_buffer("mean", mean.detach().clone().float())
        self.register_buffer("std", std.detach().clone().float())

    @classmethod
    def identity(cls, channels: int) -> "LatentNormalizer":
        """The map that changes nothing."""
        return cls(torch.zeros(channels), torch.ones(channels))

    def take_over(self, other: "LatentNormalizer") -> None:
        """Replaces the statistics by those of another normaliser, also of another shape."""
        self.mean = other.mean.detach().clone().to(self.mean.device)
        self.std = other.std.detach().clone().to(self.std.device)

    def per_channel(self) -> "LatentNormalizer":
        """The map with one mean and one standard deviation a channel: those of all frames and places together."""
        if self.mean.ndim == 1:
            return LatentNormalizer(self.mean, self.std)
        means, stds = self.mean.flatten(1).double(), self.std.flatten(1).double()
        mean = means.mean(1)
        variance = (stds.square() + means.square()).mean(1) - mean.square()
        return LatentNormalizer(mean, variance.sqrt())

    def _shaped(self, values: Tensor, like: Latents) -> Tensor:
        values = values.to(like.dtype)
        if values.ndim == 1:
            return per_channel(values, like)
        if values.ndim > 2:
            if values.shape != like.shape[1:]:
                raise ValueError(
                    f"this normaliser has statistics of each place of latents of shape {tuple(values.shape)!r}; got"
                    f" latents of shape {tuple(like.shape[1:])!r}"
                )
            return values[None]
        frames = like.shape[2] if like.ndim == 5 else 0
        if not 0 < frames <= values.shape[1]:
            raise ValueError(
                f"this normaliser has statistics of clips of up to {values.shape[1]} latent frames; got latents of"
                f" shape {tuple(like.shape)!r}"
            )
        return values[None, :, :frames, None, None]

    def normalize(self, latents: Latents) -> Latents:
        """Raw latents to ``NormalizedLatents``. Raises TypeError when they are that already."""
        refuse_normalized(latents, "normalize")
        normalized: Tensor = (latents - self._shaped(self.mean, latents)) / self._shaped(self.std, latents)
        # Under torch.compile the type would break the graph; there, it has been checked in the first, eager call. What
        # has a type of its own already, such as a tensor that stands for a shape alone, cannot take another.
        keeps_type = torch.compiler.is_compiling() or type(normalized) is not Tensor
        return normalized if keeps_type else normalized.as_subclass(NormalizedLatents)

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
        refuse_normalized(posterior.mean, "ChannelStatistics")
        mean = posterior.mean.detach().double().transpose(0, 1).flatten(1)
        second = mean.square()
        if posterior.logvar is not None:
            second = second + posterior.logvar.detach().double().transpose(0, 1).flatten(1).exp()
        self.count += mean.shape[1]
        self.sum += mean.sum(1).cpu()
        self.sum_of_squares += second.sum(1).cpu()

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
