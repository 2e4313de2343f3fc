"""The contract of a denoiser."""

from abc import ABC, abstractmethod

from torch import nn

from diffusability.core.shapes import Labels, Latents, Times


class Denoiser(nn.Module, ABC):
    """Predicts what an objective asks of it (a velocity, say) from noisy normalised latents.

    Attributes:
        num_classes: number of class labels; None for an unconditional model. The label ``num_classes`` stands for
            "no class", as classifier-free guidance needs it.
    """

    num_classes: int | None = None

    @abstractmethod
    def forward(self, latents: Latents, time: Times, labels: Labels | None) -> Latents:
        """The prediction, of the latents' shape. Time runs from data at 0 to noise at 1."""
