"""A trained denoiser with all that sampling needs."""

import attrs

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import VELOCITIES, Parametrisation
from diffusability.core.contracts.velocity_model import VelocityModel
from diffusability.core.specs.components import DenoiserSpec


@attrs.frozen(kw_only=True, eq=False)
class DiffusionModel:
    """A trained denoiser with all that sampling needs.

    Attributes:
        denoiser: predicts what ``parametrisation`` says of normalised latents.
        normalizer: maps between raw and normalised latents.
        latent_shape: shape ``(c, *t, h, w)`` of one sample.
        num_classes: class labels; None for an unconditional model.
        spec: the configuration that rebuilds the denoiser.
        parametrisation: what the denoiser predicts, and along which path.
    """

    denoiser: Denoiser
    normalizer: LatentNormalizer
    latent_shape: tuple[int, ...]
    num_classes: int | None
    spec: DenoiserSpec
    parametrisation: Parametrisation = VELOCITIES

    def velocity_model(self) -> VelocityModel:
        """The denoiser as samplers take it."""
        return VelocityModel(self.denoiser, self.parametrisation, self.normalizer)
