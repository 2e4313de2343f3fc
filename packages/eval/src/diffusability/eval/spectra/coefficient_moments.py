"""Means and variances of block DCT coefficients, and the divergence of Gaussians that have them."""

import torch
from jaxtyping import Float
from torch import Tensor


class CoefficientMoments:
    """Streaming sums of coefficients and their squares, by step, channel and frequency, in float64.

    Attributes:
        count: coefficients seen at each step, channel and frequency.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor = torch.zeros(())
        self._square: Tensor = torch.zeros(())

    def update(self, steps: list[Float[Tensor, "n c blocks k"]]) -> None:
        """Adds a batch, of each step."""
        self.count += steps[0].shape[0] * steps[0].shape[2]
        self._sum = self._sum + torch.stack([step.sum((0, 2)).cpu() for step in steps])
        self._square = self._square + torch.stack([step.square().sum((0, 2)).cpu() for step in steps])

    def merge(self, other: "CoefficientMoments") -> None:
        """Adds what another one has seen."""
        self.count += other.count
        self._sum = self._sum + other._sum
        self._square = self._square + other._square

    def without(self, other: "CoefficientMoments") -> "CoefficientMoments":
        """Of all but what the other one, which is a part of this one, has seen."""
        rest = CoefficientMoments()
        rest.count = self.count - other.count
        rest._sum, rest._square = self._sum - other._sum, self._square - other._square
        return rest

    def mean(self) -> Float[Tensor, "steps c k"]:
        """Means."""
        return self._sum / self.count

    def variance(self) -> Float[Tensor, "steps c k"]:
        """Variances."""
        return (self._square / self.count - self.mean().square()).clamp_min(0)


def gaussian_divergence(
    mean: Float[Tensor, "*s"],
    variance: Float[Tensor, "*s"],
    true_mean: Float[Tensor, "*s"],
    true_variance: Float[Tensor, "*s"],
) -> Float[Tensor, "*s"]:
    """``KL(N(m, v) || N(m', v')) = (v / v' + (m - m')^2 / v' - 1 - log(v / v')) / 2``, in nats, element by element.

    Variances are taken to be at least 1e-12.
    """
    variance, true_variance = variance.clamp_min(1e-12), true_variance.clamp_min(1e-12)
    ratio = variance / true_variance
    return (ratio + (mean - true_mean).square() / true_variance - 1 - ratio.log()) / 2
