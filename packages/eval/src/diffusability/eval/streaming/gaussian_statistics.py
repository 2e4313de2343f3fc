"""Mean and covariance of feature vectors that arrive in batches, on any number of ranks."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError


class GaussianStatistics:
    """Count, mean and scatter ``sum (x - mean) (x - mean)^T`` in float64. Memory does not grow with the count.

    Batches, and what other ranks have seen, are joined by the pairwise update of Chan, Golub & LeVeque (1979):
    ``M = M1 + M2 + n1 n2 / (n1 + n2) d d^T`` with ``d`` the difference of the means. Unlike sums of squares it does not
    cancel when the mean is large.

    Attributes:
        count: vectors seen.
        mean: their mean.
        scatter: as above, of which the covariance is a part of ``count - 1``.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros((), dtype=torch.float64)
        self.scatter: Tensor = torch.zeros((), dtype=torch.float64)

    def update(self, vectors: Float[Tensor, "n d"]) -> None:
        """Adds vectors."""
        if len(vectors) == 0:
            return
        exact = vectors.double()
        mean = exact.mean(0)
        centred = exact - mean
        self._join(len(vectors), mean, centred.T @ centred)

    def merge(self, other: "GaussianStatistics") -> None:
        """Adds what another one has seen.

        Raises:
            DataError: its vectors have another length.
        """
        if other.count:
            self._join(other.count, other.mean, other.scatter)

    def _join(self, count: int, mean: Float[Tensor, " d"], scatter: Float[Tensor, "d d"]) -> None:
        if self.count == 0:
            self.count, self.mean, self.scatter = count, mean, scatter
            return
        if mean.shape != self.mean.shape:
            raise DataError(f"features of length {len(mean)} follow features of length {len(self.mean)}")
        mean, scatter = mean.to(self.mean.device), scatter.to(self.mean.device)
        total = self.count + count
        difference = mean - self.mean
        self.scatter = self.scatter + scatter
        self.scatter.addr_(difference, difference, alpha=self.count * count / total)
        self.mean = self.mean + difference * (count / total)
        self.count = total

    def covariance(self) -> Float[Tensor, "d d"]:
        """The sample covariance, with the divisor ``count - 1`` as in numpy.cov.

        Raises:
            DataError: of fewer than two vectors there is none.
        """
        if self.count < 2:
            raise DataError(f"a covariance needs at least two images, got {self.count}")
        return self.scatter / (self.count - 1)

    def on_cpu(self) -> "GaussianStatistics":
        """A copy that other processes can read."""
        copy = GaussianStatistics()
        copy.count, copy.mean, copy.scatter = self.count, self.mean.cpu(), self.scatter.cpu()
        return copy
