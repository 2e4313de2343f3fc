"""Reconstruction from noised latents."""

from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.numerics.axes import per_sample
from diffusability.core.shapes import Scalar
from diffusability.regularizers.decoding import decoding_loss, distance_of, images_and_latents, trained_autoencoder
from diffusability.regularizers.latents import sample_deviation
from diffusability.regularizers.specs.latent_noise import LatentNoiseSpec


def noised(
    latents: Float[Tensor, "b c *t h w"],
    noise: Float[Tensor, "b c *t h w"],
    levels: Float[Tensor, " b"],
    *,
    interpolate: bool,
) -> Float[Tensor, "b c *t h w"]:
    """``(1 - t) z + t e``, or ``z + t e``, with a level t for each sample.

    The former noises as rectified flow does, the noise of "Latent Denoising Makes Good Visual Tokenizers" (Yang et al.
    2025, arXiv 2507.15856); the latter as "Diffusion Transformers with Representation Autoencoders" (Zheng et al. 2025,
    arXiv 2510.11690) trains its decoder. Both papers draw their levels from other ranges than the default here.
    """
    shaped = per_sample(levels, latents).to(latents)
    kept = (1 - shaped) * latents if interpolate else latents
    return kept + shaped * noise


class LatentNoise(Regularizer):
    """The reconstruction loss of noised latents, at a level drawn for every sample."""

    def __init__(self, spec: LatentNoiseSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The loss, at least 0. The noise is as strong as each sample's latents vary, without gradient."""
        images, latents = images_and_latents(output)
        randomness = output.batch.randomness
        scale = self.spec.noise_scale * sample_deviation(latents)
        noise = scale * randomness.normal("latent-noise", latents.shape[1:], latents.device).to(latents)
        levels = self.spec.max_level * randomness.uniform("latent-noise level", latents.device)
        changed = noised(latents, noise, levels, interpolate=self.spec.mix == "interpolate")
        decode = trained_autoencoder(objective, self.spec.label).decode
        return decoding_loss(images, changed, decode, distance_of(objective, self.spec.perceptual), "noised")
