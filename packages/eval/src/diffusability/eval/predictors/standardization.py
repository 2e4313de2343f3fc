"""Latents as a denoiser sees them: each channel at mean 0 and variance 1 over the set."""

import attrs
from jaxtyping import Bool, Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import per_channel
from diffusability.core.numerics.finite import require_finite

#: A channel is constant when its variance is below this share of its mean square.
CONSTANT = 1e-12


@attrs.frozen(kw_only=True, eq=False)
class ChannelScaling:
    """Mean and standard deviation of each channel over samples and places, in float64, and which channels vary.

    A channel that is constant over the set carries no information about a sample: it is left out, not scaled.
    """

    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]
    varying: Bool[Tensor, " c"]

    @classmethod
    def from_moments(cls, mean: Float[Tensor, " c"], mean_square: Float[Tensor, " c"], what: str) -> "ChannelScaling":
        """The scaling of latents with these means and mean squares; ``what`` needs them, for the message.

        Raises:
            DataError: all channels are constant.
        """
        return cls._checked(mean, (mean_square - mean.square()).clamp_min(0), what)

    @classmethod
    def from_latents(cls, latents: Float[Tensor, "n c *s"], what: str) -> "ChannelScaling":
        """The scaling of a set of latents; ``what`` needs them, for the message.

        Raises:
            DataError: a number is not finite, or all channels are constant.
        """
        require_finite(latents, f"{what}: latents", range(len(latents)))
        flat = latents.double().flatten(2)
        return cls._checked(flat.mean((0, 2)), flat.var((0, 2), correction=0), what)

    @classmethod
    def _checked(cls, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"], what: str) -> "ChannelScaling":
        varying = variance > CONSTANT * (variance + mean.square())
        if not bool(varying.any()):
            raise DataError(
                f"{what}: the latents are constant in every one of their {len(varying)} channels over the set;"
                " expected at least one that varies"
            )
        return cls(mean=mean, std=variance.sqrt(), varying=varying)

    def __call__(self, latents: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c2 *s"]:
        """The channels that vary, at mean 0 and variance 1 over the set, in float64."""
        chosen = latents[:, self.varying].double()
        mean, std = (per_channel(values[self.varying], latents) for values in (self.mean, self.std))
        return (chosen - mean) / std

    @property
    def note(self) -> str:
        """How many channels are left out, for readers of a result; empty when all vary."""
        constant = int((~self.varying).sum())
        if not constant:
            return ""
        return (
            f"{constant} of {len(self.varying)} latent channels {'is' if constant == 1 else 'are'} constant: left out"
        )


def standardized(latents: Float[Tensor, "n c *s"], what: str = "standardization") -> Float[Tensor, "n c2 *s"]:
    """Latents with each channel at mean 0 and variance 1 over samples and places, in float64; constant ones left out.

    Raises:
        DataError: a number is not finite, or all channels are constant.
    """
    return ChannelScaling.from_latents(latents, what)(latents)
