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

    ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` (Dowson & Landau 1982; Heusel et al. 2017, equation 6). The trace of
    the root is the sum of the roots of the eigenvalues of ``S1^(1/2) S2 S1^(1/2)``, which is symmetric and positive
    semidefinite: two symmetric eigenvalue problems take the place of a general matrix root, which is slower and, for
    singular covariances, inexact. Eigenvalues below 0 come from rounding and count as 0.
    """
    covariances = (first_covariance.double(), second_covariance.double())
    values, vectors = torch.linalg.eigh(covariances[0])
    root = vectors * values.clamp(min=0).sqrt()
    product = root.T @ covariances[1] @ root
    trace_of_root = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    between_means = (first_mean.double() - second_mean.double()).square().sum()
    total = between_means + covariances[0].trace() + covariances[1].trace() - 2 * trace_of_root
    return max(float(total), 0.0)
