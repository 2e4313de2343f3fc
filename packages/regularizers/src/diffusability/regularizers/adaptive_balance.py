"""A weight that follows the reconstruction loss: a share of its gradient at the latents."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.shapes import Latents, Scalar
from diffusability.regularizers.decoding import distance_of, images_and_latents, trained_autoencoder
from diffusability.regularizers.step_means import StepMeans

#: Largest factor, as in the authors' code of VQGAN and its successors.
_LARGEST = 1e4


def gradient_energy(loss: Scalar, latents: Latents) -> Scalar:
    """``|d loss / d z|^2``. The latents must be a leaf that nothing but ``loss`` depends on.

    Taking gradients at a detached copy of the latents, inside the forward pass, works at every ZeRO stage; through the
    graph of the step it does not at stage 3.
    """
    (gradient,) = torch.autograd.grad(loss, latents)
    return gradient.float().square().sum()


class GradientBalance(nn.Module):
    """``|grad reconstruction loss| / |grad term|``, gradients taken at the latents.

    The adaptive weight of VQGAN (Esser et al. 2021, equation 7) as VA-VAE uses it, there at the encoder's last layer.
    It is measured in one of ``every`` steps and used from the next one on, since it costs a pass through the decoder
    and back; in the first step it is used at once. It depends neither on the number of ranks nor, except for the first
    step, on the micro batch. Everything is in buffers and checkpointed.
    """

    balance: Float[Tensor, ""]

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.register_buffer("balance", torch.full((), -1.0, dtype=torch.float64))
        self.energies = StepMeans(2)

    def is_due(self, step: int) -> bool:
        """Takes over what the last measuring step has found; whether this step measures."""
        finished = self.energies.finished(step)
        if finished is not None:
            self._take(finished)
        return step % self.every == 0 or float(self.balance) < 0

    def measure(self, output: StepOutput, objective: Objective, leaf: Latents, term: Scalar, label: str) -> None:
        """Takes both gradients; ``term`` must have been computed from ``leaf``, a detached copy of the latents."""
        images, _ = images_and_latents(output)
        term_energy = gradient_energy(term, leaf)
        decoded = trained_autoencoder(objective, label).decode(leaf)
        own_energy = gradient_energy(distance_of(objective, True)(images, decoded), leaf)
        self.energies.add(output.batch.randomness.step, torch.stack([own_energy, term_energy]))
        if float(self.balance) < 0:
            self._take(self.energies.so_far())

    def _take(self, energies: Float[Tensor, "2"]) -> None:
        ratio = energies[0].sqrt() / energies[1].sqrt().clamp_min(1e-12)
        self.balance.fill_(float(ratio.clamp(0, _LARGEST)))

    def factor(self) -> Tensor:
        """The balance, at least 0."""
        return self.balance.clamp_min(0).float()
