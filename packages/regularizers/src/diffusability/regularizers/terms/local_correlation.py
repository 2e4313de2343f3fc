"""Correlation of latents that are neighbours in space and time (SSVAE)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.shapes import Latents, Scalar
from diffusability.regularizers.adaptive_balance import GradientBalance
from diffusability.regularizers.latents import at_least_float32, without_autocast
from diffusability.regularizers.specs.local_correlation import LocalCorrelationSpec


def windows(clips: Float[Tensor, "b c t h w"], size: tuple[int, int, int]) -> Float[Tensor, "n m c"]:
    """Cuts clips into windows of ``size`` frames, rows and columns: n windows of m latent vectors each."""
    batch, channels, frames, height, width = clips.shape
    count, rows, columns = size
    cut = clips.reshape(batch, channels, frames // count, count, height // rows, rows, width // columns, columns)
    return cut.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(-1, count * rows * columns, channels)


def mean_correlation(vectors: Float[Tensor, "n m c"]) -> Scalar:
    """Mean Pearson correlation, over channels, of all pairs of different vectors within a window."""
    centred = vectors - vectors.mean(-1, keepdim=True)
    unit = centred / (centred.norm(dim=-1, keepdim=True) + 1e-8)
    count = vectors.shape[1]
    # The sum over all ordered pairs is |sum of the unit vectors|^2; the pairs with themselves are left out.
    pairs: Tensor = unit.sum(1).square().sum(-1) - unit.square().sum((1, 2))
    return pairs.mean() / (count * (count - 1))


def local_correlation(latents: Latents, window: tuple[int, int, int] = (2, 2, 2)) -> Scalar:
    """Mean correlation of neighbours, in [-1, 1]: in space for images and first frames, in space and time for the rest.

    Channels are first brought to mean 0 and deviation 1 over the batch, by statistics that carry no gradient. Of
    clips, the mean of the first frames' correlation and that of the others (Liu et al. 2025, "Delving into Latent
    Spectral Biasing of Video VAEs", arXiv 2512.05394; details from the authors' code).
    """
    with without_autocast(latents):
        latents = at_least_float32(latents)
        clips = latents if latents.ndim == 5 else latents.unsqueeze(2)
        axes = (0, 2, 3, 4)
        mean, std = clips.detach().mean(axes, keepdim=True), clips.detach().std(axes, keepdim=True)
        clips = (clips - mean) / (std + 1e-6)
        first = mean_correlation(windows(clips[:, :, :1], (1, *window[1:])))
        if clips.shape[2] == 1:
            return first
        return (first + mean_correlation(windows(clips[:, :, 1:], window))) / 2


def local_correlation_loss(latents: Latents, threshold: float, window: tuple[int, int, int] = (2, 2, 2)) -> Scalar:
    """``relu(threshold - correlation)``: zero once neighbours are correlated enough (ibid., L_LCR)."""
    return F.relu(threshold - local_correlation(latents, window))


class LocalCorrelation(Regularizer):
    """The loss on the posterior's mode, as the authors take it, or on the latents for the adaptive weight."""

    def __init__(self, spec: LocalCorrelationSpec) -> None:
        super().__init__()
        self.spec = spec
        self.balance = GradientBalance(spec.adapt_every) if spec.adaptive else None

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The loss, in [0, 2]."""
        assert output.posterior is not None, "the objective provides a posterior"
        mode = output.posterior.mode()
        if self.balance is not None and self.balance.is_due(output.batch.randomness.step):
            leaf = mode.detach().requires_grad_()
            term = local_correlation_loss(leaf, self.spec.threshold, self.spec.window)
            self.balance.measure(output, objective, leaf, term, self.spec.label)
        return local_correlation_loss(mode, self.spec.threshold, self.spec.window)

    def factor(self) -> Tensor | None:
        """The share of the reconstruction loss's gradient that the weight is multiplied by."""
        return None if self.balance is None else self.balance.factor()
