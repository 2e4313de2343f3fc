"""Central moments of the channels of latents that arrive in batches, on any number of ranks."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.eval.streaming.gaussian_statistics import GaussianStatistics

#: A channel is constant when its variance is below this share of its mean square.
CONSTANT = 1e-12


class ChannelMoments:
    """Mean, covariance, and third and fourth central moments over all latents and places, in float64.

    Parts are joined by Pebay's formulas (Sandia report SAND2008-6212, equations 1.5 to 1.7), with ``d`` the difference
    of the means, ``n = n1 + n2`` and ``M_p`` sums of powers of the distance from the mean:
    ``M3 = M3_1 + M3_2 + d^3 n1 n2 (n1 - n2) / n^2 + 3 d (n1 M2_2 - n2 M2_1) / n``,
    ``M4 = M4_1 + M4_2 + d^4 n1 n2 (n1^2 - n1 n2 + n2^2) / n^3 + 6 d^2 (n1^2 M2_2 + n2^2 M2_1) / n^2
    + 4 d (n1 M3_2 - n2 M3_1) / n``.
    """

    def __init__(self) -> None:
        self.gaussian = GaussianStatistics()
        self.third: Tensor = torch.zeros((), dtype=torch.float64)
        self.fourth: Tensor = torch.zeros((), dtype=torch.float64)

    def update(self, latents: Float[Tensor, "b c *t h w"]) -> None:
        """Adds latents. Raises DataError when they have another number of channels than before."""
        vectors = latents.double().transpose(0, 1).flatten(1).T
        part = ChannelMoments()
        part.gaussian.update(vectors)
        centred = vectors - part.gaussian.mean
        part.third, part.fourth = centred.pow(3).sum(0), centred.pow(4).sum(0)
        self.merge(part)

    def merge(self, other: "ChannelMoments") -> None:
        """Adds what another one has seen."""
        if other.gaussian.count == 0:
            return
        if self.gaussian.count:
            third, fourth = _joined(self, other)
        else:
            third, fourth = other.third, other.fourth
        self.gaussian.merge(other.gaussian)
        self.third, self.fourth = third, fourth

    def varying(self) -> Bool[Tensor, " c"]:
        """Which channels are not constant over all latents and places.

        Raises:
            DataError: nothing was seen.
        """
        if self.gaussian.count == 0:
            raise DataError("no latents were evaluated: statistics of channels need at least one")
        variance = self.variance()
        return variance > CONSTANT * (variance + self.gaussian.mean.square())

    def variance(self) -> Float[Tensor, " c"]:
        """Variance of each channel, with the divisor n."""
        return self.gaussian.scatter.diagonal() / self.gaussian.count

    def excess_kurtosis(self) -> Float[Tensor, " c"]:
        """``n M4 / M2^2 - 3`` of each channel, 0 for a Gaussian; NaN where a channel is constant."""
        second = self.gaussian.scatter.diagonal()
        kurtosis = self.gaussian.count * self.fourth / second.square() - 3
        return torch.where(self.varying(), kurtosis, torch.full_like(kurtosis, torch.nan))

    def correlation(self) -> Float[Tensor, "c c"]:
        """Pearson's correlation of each pair of channels; 0 with a constant one."""
        varying = self.varying()
        scale = torch.where(varying, self.gaussian.scatter.diagonal(), torch.ones_like(self.third)).rsqrt()
        scale = torch.where(varying, scale, torch.zeros_like(scale))
        correlation = scale[:, None] * self.gaussian.scatter * scale
        return correlation.clamp(-1, 1)

    def on_cpu(self) -> "ChannelMoments":
        """A copy that other processes can read."""
        copy = ChannelMoments()
        copy.gaussian, copy.third, copy.fourth = self.gaussian.on_cpu(), self.third.cpu(), self.fourth.cpu()
        return copy


def _joined(first: ChannelMoments, second: ChannelMoments) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Third and fourth moments of both together."""
    n_a, n_b = first.gaussian.count, second.gaussian.count
    total = n_a + n_b
    device = first.third.device
    if second.gaussian.mean.shape != first.gaussian.mean.shape:
        raise DataError(
            f"latents of {len(second.gaussian.mean)} channels follow latents of {len(first.gaussian.mean)} channels"
        )
    d = second.gaussian.mean.to(device) - first.gaussian.mean
    squares = first.gaussian.scatter.diagonal(), second.gaussian.scatter.diagonal().to(device)
    cubes = first.third, second.third.to(device)
    third = (
        cubes[0]
        + cubes[1]
        + d.pow(3) * (n_a * n_b * (n_a - n_b) / total**2)
        + 3 * d * (n_a * squares[1] - n_b * squares[0]) / total
    )
    fourth = (
        first.fourth
        + second.fourth.to(device)
        + d.pow(4) * (n_a * n_b * (n_a**2 - n_a * n_b + n_b**2) / total**3)
        + 6 * d.square() * (n_a**2 * squares[1] + n_b**2 * squares[0]) / total**2
        + 4 * d * (n_a * cubes[1] - n_b * cubes[0]) / total
    )
    return third, fourth
