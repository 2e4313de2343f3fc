"""The contract of a denoiser."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from diffusability.core.contracts.from_spec import FromSpec
from diffusability.core.shapes import Labels, Latents, Predictions, Times
from diffusability.core.specs.components import DenoiserSpec


class Denoiser(nn.Module, FromSpec, ABC):
    """Predicts what an objective asks of it (a velocity, say) from noisy normalised latents.

    Attributes:
        num_classes: number of class labels; None for an unconditional model. The label ``num_classes`` stands for
            "no class", as classifier-free guidance needs it.
        learn_sigma: whether the prediction has twice the latents' channels; the second half is for objectives that
            learn a variance (``prediction.chunk(2, dim=1)``).
        self_conditioning: whether ``forward`` takes an earlier estimate of the clean latents.
        spec: the configuration that rebuilds this architecture, where it is another than what it was built from: one
            without a file of weights to start from.
    """

    num_classes: int | None = None
    learn_sigma: bool = False
    self_conditioning: bool = False
    spec: DenoiserSpec | None = None

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """Blocks that the engine may compile, and whose activations it may compute again in the backward pass.

        Each is called as a module, keeps no state between calls, and lies in no other. None by default.
        """
        return ()

    def export(self, directory: Path) -> str | None:
        """Writes the weights as another library reads them, in a folder of its own below ``directory``.

        Returns the folder's name; None, and nothing is written, when no other library has this very model. By default
        none has.
        """
        return None

    @abstractmethod
    def forward(
        self, latents: Latents, time: Times, labels: Labels | None, previous_estimate: Latents | None = None
    ) -> Predictions:
        """The prediction, of the latents' shape, or of twice their channels with ``learn_sigma``.

        Time runs from data at 0 to noise at 1. ``previous_estimate`` is an estimate of the clean normalised latents,
        for self-conditioning denoisers only; None stands for zeros (Chen et al. 2022, "Analog Bits", section 3.2).
        """
