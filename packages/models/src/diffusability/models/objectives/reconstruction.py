"""The objective that trains an autoencoder to reconstruct its images."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.contracts.objective import Batch, Objective, StepOutput
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.models.saved_models import save_autoencoder
from diffusability.core.numerics.axes import per_sample
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.numerics.resampling import downsample
from diffusability.core.shapes import Images, Latents, Scalar
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.objectives.reconstruction_loss import ReconstructionLoss, reconstruction_loss
from diffusability.models.objectives.trained_parts import (
    freeze_all_but,
    freeze_decoder_tail,
    freeze_matching,
    require_trained,
)
from diffusability.models.specs.objectives.reconstruction import ReconstructionSpec


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
    """The distance of images to what is decoded from a sample of their posterior."""

    def __init__(self, *, autoencoder: Autoencoder, loss: ReconstructionLoss, latent_noise: float = 0.0) -> None:
        super().__init__()
        self.latent_noise = latent_noise
        self.autoencoder: Autoencoder = autoencoder
        self.loss = loss

    @classmethod
    def from_spec(cls, spec: ReconstructionSpec, context: BuildContext) -> "Reconstruction":
        autoencoder = build_autoencoder(spec.autoencoder, context)
        freeze_all_but(autoencoder, spec.train)
        freeze_matching(autoencoder, spec.freeze)
        freeze_decoder_tail(autoencoder, spec.freeze_decoder_tail, spec.autoencoder.is_pretrained(context))
        require_trained(autoencoder)
        loss = reconstruction_loss(spec, context.untrained)
        return cls(autoencoder=autoencoder, loss=loss, latent_noise=spec.latent_noise)

    def forward(self, batch: Batch) -> StepOutput:
        """Encodes, samples, adds noise where asked, decodes and compares.

        Monitors: psnr (dB), latent_std, kl_per_dim (nats), and each distance before its weight where there are several.
        """
        images = batch.data
        posterior = self.autoencoder.encode(images)
        noise = batch.randomness.normal("posterior", posterior.mean.shape[1:], images.device)
        sampled = posterior.sample(noise)
        latents = self._noisy(sampled, batch.randomness)
        reconstruction = self.autoencoder.decode(latents)
        terms = self.loss.terms(images, reconstruction)
        return StepOutput(
            losses={"reconstruction": self.loss.total(terms)},
            batch=batch,
            images=images,
            posterior=posterior,
            latents=latents,
            reconstruction=reconstruction,
            monitors={
                "psnr": psnr(images, reconstruction.detach()).mean(),
                **latent_monitors(posterior, sampled),
                **({name: term.detach() for name, term in terms.items()} if len(terms) > 1 else {}),
            },
        )

    def _noisy(self, latents: Latents, randomness: BatchRandomness) -> Latents:
        """Latents with noise of a level of its own for each sample, in training (Zheng et al. 2025, section 4.3)."""
        if self.latent_noise == 0 or not self.training:
            return latents
        level = self.latent_noise * randomness.normal("latent-noise-level", (), latents.device).abs()
        noise = randomness.normal("latent-noise", latents.shape[1:], latents.device)
        return latents + (per_sample(level, latents) * noise).to(latents.dtype)

    def reconstruction_loss(self, images: Images, reconstruction: Images, perceptual: bool = True) -> Scalar:
        """The weighted sum of the spec's distances; without ``perceptual``, those of pixels and frequencies alone."""
        return self.loss(images, reconstruction, perceptual)

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
