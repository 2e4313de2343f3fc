"""The Frechet distance of Gaussians."""

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(
    first_mean: Float[Tensor, " d"],
    first_covariance: Float[Tensor, "d d"],
    second_mean: Float[Tensor, " d"],
    second_covariance: Float[Tensor, "d d"],
) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, in float64.

    ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` (Dowson & Landau 1982; Heusel et al. 2017, equation 6). With
    ``S1 = A A^T`` and ``S2 = B B^T`` the trace of the root is the sum of the singular values of ``A^T B``: two
    symmetric eigenvalue problems and one of singular values take the place of a general matrix root, which is slower
    and, for singular covariances, inexact. The roots of the eigenvalues of ``S1 S2`` would be no better: one that is 0
    is known to 1e-16, and its root to 1e-8 only.
    """
    covariances = (first_covariance.double(), second_covariance.double())
    first, second = (_factor(covariance) for covariance in covariances)
    trace_of_root = torch.linalg.svdvals(first.T @ second).sum()
    between_means = (first_mean.double() - second_mean.double()).square().sum()
    total = between_means + covariances[0].trace() + covariances[1].trace() - 2 * trace_of_root
    return max(float(total), 0.0)


def _factor(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d r"]:
    """``A`` of ``A A^T = covariance``, without the axes along which it is 0 up to rounding.

    Eigenvalues are known to ``d eps`` times the largest one. Those below are no different from 0, and their roots would
    be 1e8 times as large as the error they come from.
    """
    values, vectors = torch.linalg.eigh(covariance)
    known = values > len(values) * torch.finfo(values.dtype).eps * values[-1].clamp(min=0)
    factor: Tensor = vectors[:, known] * values[known].sqrt()
    return factor
