"""The contract of a sampler."""

from abc import ABC, abstractmethod

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.from_spec import FromSpec
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Labels, Latents


class Sampler(FromSpec, ABC):
    """Carries noise at time 1 to data at time 0 along the straight path, with a model of velocities."""

    @abstractmethod
    def sample(
        self,
        denoiser: Denoiser,
        noise: Latents,
        labels: Labels | None = None,
        randomness: BatchRandomness | None = None,
    ) -> Latents:
        """Normalised latents that the denoiser makes of standard normal ``noise``. Call without gradients.

        Args:
            denoiser: a ``VelocityModel`` (``DiffusionModel.velocity_model()``), or a denoiser that predicts velocities.
            noise: standard normal.
            labels: classes, for a conditional model.
            randomness: where further noise comes from, for samplers that add some: each sample from its own stream.
        """
