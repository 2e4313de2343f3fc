"""The distribution of latents that an encoder returns."""

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.shapes import Latents


@attrs.frozen(kw_only=True, eq=False)
class Posterior:
    """A diagonal Gaussian over raw latents, or a point when ``logvar`` is None.

    Attributes:
        mean: the mean, ``b c *t h w``.
        logvar: log variance of the same shape, or None for a deterministic encoder.
    """

    mean: Latents
    logvar: Latents | None = None

    def mode(self) -> Latents:
        """The most likely latents."""
        return self.mean

    def sample(self, noise: Latents) -> Latents:
        """The latents for a standard normal ``noise`` of the mean's shape; differentiable in mean and logvar."""
        if self.logvar is None:
            return self.mean
        return self.mean + torch.exp(0.5 * self.logvar) * noise.to(self.mean)

    def kl_per_dim(self) -> Float[Tensor, "b c *t h w"]:
        """KL divergence to the standard normal of every latent dimension, in nats: (mu^2 + s^2 - 1 - log s^2) / 2.

        A deterministic encoder has no such divergence and gives an error.
        """
        if self.logvar is None:
            raise ValueError("a deterministic posterior has no KL divergence")
        mean, logvar = self.mean.float(), self.logvar.float()
        return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar)
