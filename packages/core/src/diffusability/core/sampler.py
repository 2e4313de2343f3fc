"""The contract of a sampler."""

from abc import ABC, abstractmethod

from diffusability.core.denoiser import Denoiser
from diffusability.core.shapes import Labels, Latents


class Sampler(ABC):
    """Carries noise at time 1 to data at time 0 with a velocity-predicting denoiser."""

    @abstractmethod
    def sample(self, denoiser: Denoiser, noise: Latents, labels: Labels | None = None) -> Latents:
        """Normalised latents that the denoiser makes of standard normal ``noise``. Call without gradients."""
