"""The objective that trains an autoencoder to reconstruct its images."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.autoencoder import Autoencoder
from diffusability.core.errors import SpecError
from diffusability.core.objective import Batch, Objective, StepOutput
from diffusability.core.posterior import Posterior
from diffusability.core.resampling import downsample
from diffusability.core.sampler import Sampler
from diffusability.core.saved_models import save_autoencoder
from diffusability.core.shapes import Images, Latents, Scalar
from diffusability.models.specs import ReconstructionSpec


def image_distance(images: Images, reconstruction: Images, l1: float, mse: float) -> Scalar:
    """``l1 * mean |x - y| + mse * mean (x - y)^2`` over all pixels, in float32."""
    difference = images.float() - reconstruction.float()
    distance = torch.zeros((), device=difference.device)
    if l1:
        distance = distance + l1 * difference.abs().mean()
    if mse:
        distance = distance + mse * difference.square().mean()
    return distance


def psnr(images: Images, reconstruction: Images) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each image in dB, for values in [-1, 1]; the reconstruction is clamped to them.

    ``10 log10(4 / mse)``, at most 100 dB.
    """
    difference = images.float() - reconstruction.float().clamp(-1, 1)
    mse = difference.square().flatten(1).mean(1)
    return 10 * (math.log10(4) - mse.clamp_min(4e-10).log10())


@torch.no_grad()
def latent_monitors(posterior: Posterior, latents: Latents) -> dict[str, Tensor]:
    """``latent_std`` over all dimensions and samples and, of a Gaussian posterior, ``kl_per_dim`` in nats."""
    monitors = {"latent_std": latents.float().std(correction=0)}
    if posterior.logvar is not None:
        monitors["kl_per_dim"] = posterior.kl_per_dim().mean()
    return monitors


class Reconstruction(Objective):
    """The distance of images to what is decoded from a sample of their posterior.

    Raises:
        SpecError: the decoder's tail is to be frozen, and the autoencoder names none.
    """

    provides = ReconstructionSpec.provides

    def __init__(self, *, autoencoder: Autoencoder, l1: float, mse: float, freeze_decoder_tail: bool) -> None:
        super().__init__()
        self.autoencoder: Autoencoder = autoencoder
        self.l1 = l1
        self.mse = mse
        if freeze_decoder_tail:
            tail = tuple(autoencoder.decoder_tail())
            if not tail:
                raise SpecError(
                    f"freeze_decoder_tail is True, and {type(autoencoder).__name__} names no decoder tail;"
                    " expected an autoencoder with a decoder_tail()"
                )
            for module in tail:
                module.requires_grad_(False)

    def forward(self, batch: Batch) -> StepOutput:
        """Encodes, samples, decodes and compares. Monitors: psnr (dB), latent_std, kl_per_dim (nats)."""
        images = batch.data
        posterior = self.autoencoder.encode(images)
        noise = batch.randomness.normal("posterior", posterior.mean.shape[1:], images.device)
        latents = posterior.sample(noise)
        reconstruction = self.autoencoder.decode(latents)
        return StepOutput(
            losses={"reconstruction": self.reconstruction_loss(images, reconstruction)},
            batch=batch,
            images=images,
            posterior=posterior,
            latents=latents,
            reconstruction=reconstruction,
            monitors={
                "psnr": psnr(images, reconstruction.detach()).mean(),
                **latent_monitors(posterior, latents),
            },
        )

    def reconstruction_loss(self, images: Images, reconstruction: Images, perceptual: bool = True) -> Scalar:
        """The weighted sum of mean absolute and mean squared error."""
        return image_distance(images, reconstruction, self.l1, self.mse)

    def preview(
        self, batch: Batch, sampler: Sampler | None, decode: Callable[[Latents], Images] | None
    ) -> Mapping[str, Images]:
        """Images, what is decoded from their mode, and from it at half size where its sides can be halved."""
        latents = self.autoencoder.encode(batch.data).mode()
        rows = {"input": batch.data, "reconstruction": self.autoencoder.decode(latents).clamp(-1, 1)}
        height, width = latents.shape[-2:]
        if height % 2 == 0 and width % 2 == 0:
            half = self.autoencoder.decode(downsample(latents, 2))
            rows["decoded from latents at half size"] = half.clamp(-1, 1)
        return rows

    def save(self, directory: Path) -> None:
        """Writes the autoencoder."""
        save_autoencoder(self.autoencoder, directory)
