"""Gaussians between which Frechet distances are measured, with what all distances of one of them share."""

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.eval.streaming.gaussian_statistics import GaussianStatistics


@attrs.frozen(kw_only=True, eq=False)
class FrechetGaussian:
    """Mean, covariance and a factor of it, in float64.

    Attributes:
        mean: of the features.
        trace: of their covariance.
        factor: ``A`` of ``A A^T = covariance``.
    """

    mean: Float[Tensor, " d"]
    trace: Float[Tensor, ""]
    factor: Float[Tensor, "d r"]

    @classmethod
    def from_moments(cls, mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"]) -> "FrechetGaussian":
        """The Gaussian of these moments. A factor takes one symmetric eigenvalue problem."""
        exact = covariance.double()
        return cls(mean=mean.double(), trace=exact.trace(), factor=_factor(exact))

    @classmethod
    def from_statistics(cls, statistics: GaussianStatistics) -> "FrechetGaussian":
        """The Gaussian of at least two vectors. Raises DataError for fewer."""
        return cls.from_moments(statistics.mean, statistics.covariance())

    def distance(self, other: "FrechetGaussian") -> float:
        """Squared Frechet (2-Wasserstein) distance.

        ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` (Dowson & Landau 1982; Heusel et al. 2017, equation 6). With
        ``S1 = A A^T`` and ``S2 = B B^T`` the trace of the root is the sum of the singular values of ``A^T B``: two
        symmetric eigenvalue problems and one of singular values take the place of a general matrix root, which is
        slower and, for singular covariances, inexact. The roots of the eigenvalues of ``S1 S2`` would be no better:
        one that is 0 is known to 1e-16, and its root to 1e-8 only.
        """
        trace_of_root = torch.linalg.svdvals(self.factor.T @ other.factor).sum()
        between_means = (self.mean - other.mean).square().sum()
        return max(float(between_means + self.trace + other.trace - 2 * trace_of_root), 0.0)


def _factor(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d r"]:
    """``A`` of ``A A^T = covariance``, without the axes along which it is 0 up to rounding.

    Eigenvalues are known to ``d eps`` times the largest one. Those below are no different from 0, and their roots would
    be 1e8 times as large as the error they come from.
    """
    values, vectors = torch.linalg.eigh(covariance)
    known = values > len(values) * torch.finfo(values.dtype).eps * values[-1].clamp(min=0)
    factor: Tensor = vectors[:, known] * values[known].sqrt()
    return factor
