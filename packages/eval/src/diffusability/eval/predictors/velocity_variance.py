"""Ambiguity of the velocity that a denoiser has to predict, of latents that are modelled as a Gaussian.

"Diffusing in the Right Space" (arXiv 2606.03578), equations 3 to 6. Time here runs from data at 0 to noise at 1.
"""

import math

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.dct import dct2

#: Added to the eigenvalues of a factor, as a share of their mean, so that rounding leaves it positive definite.
RIDGE = 1e-9


@attrs.frozen(kw_only=True, eq=False)
class KroneckerCovariance:
    """``S = space (x) channel``, both symmetric; their product has the variance of the sample it was fitted to.

    Attributes:
        space: covariance of places.
        channel: covariance of channels.
        shrinkage: how far the places' correlations were shrunk, from 0 (as in the sample) to 1 (to the diagonal).
    """

    space: Float[Tensor, "s s"]
    channel: Float[Tensor, "c c"]
    shrinkage: float = 0.0

    def eigenvalues(self) -> Float[Tensor, " d"]:
        """All ``s * c`` eigenvalues, unsorted, not negative."""
        space = torch.linalg.eigvalsh(self.space).clamp_min(0)
        channel = torch.linalg.eigvalsh(self.channel).clamp_min(0)
        return torch.outer(space, channel).flatten()


def spatial_frequencies(latents: Float[Tensor, "n c *t h w"]) -> Float[Tensor, "n c s"]:
    """Orthonormal DCTs of whole maps in float64, all places and frames in one axis.

    A rotation of the places, which leaves the eigenvalues of their covariance as they are, into a basis where the
    covariance of stationary maps is nearly diagonal (Ahmed, Natarajan & Rao 1974): what ``kronecker_covariance``
    shrinks to.
    """
    return dct2(latents.double()).flatten(2)


def shrunk_covariance(rows: Float[Tensor, "n k"], degrees: int) -> tuple[Float[Tensor, "k k"], float]:
    """Covariance of rows of mean 0 whose correlations are shrunk to 0, and how far, in [0, 1].

    Schafer & Strimmer 2005 ("A shrinkage approach to large-scale covariance matrix estimation"), target D: variances
    stay, correlations are multiplied by ``1 - sum Var(r_ij) / sum r_ij^2``, the choice of least expected squared error
    (Ledoit & Wolf 2004), estimated from the rows themselves.

    Args:
        rows: ``n`` vectors, less their mean.
        degrees: how many independent ones they are worth: the divisor of the covariance.
    """
    count = len(rows)
    covariance = rows.T @ rows / degrees
    deviation = covariance.diagonal().clamp_min(1e-300).sqrt()
    correlation = covariance / deviation / deviation[:, None]
    off = (correlation.square().sum() - correlation.diagonal().square().sum()).item()
    # Scaled to rows of unit variance; sums over i != j of products of squares, without making the products.
    squares = (rows / deviation).square() * (count / degrees)
    products = (squares.sum(1).square().sum() - squares.square().sum()).item() / count
    noise = max(0.0, products - off) / max(1, degrees - 1)
    shrinkage = min(1.0, noise / off) if off > 0 else 1.0
    kept = correlation * (1 - shrinkage)
    kept.diagonal().copy_(correlation.diagonal())
    return kept * deviation * deviation[:, None], shrinkage


def kronecker_covariance(
    latents: Float[Tensor, "n c s"], num_iterations: int = 5, start: KroneckerCovariance | None = None
) -> KroneckerCovariance:
    """Fits ``S_space (x) S_channel`` by the flip-flop algorithm (Dutilleul 1999), scaled to the total variance.

    Each iteration estimates the channels' covariance from latents that are white in space, and the other way round,
    from ``start`` on (default: white in space). Both are shrunk towards their diagonals (``shrunk_covariance``): with
    few samples the eigenvalues of a sample covariance are spread far more than the true ones, and the mean of their
    roots is far too small. Covariances have the divisor ``n - 1``. Diagonals depend on the basis: take latents in
    ``spatial_frequencies``.

    Raises:
        ValueError: fewer than two samples.
    """
    count, channels, places = latents.shape
    if count < 2:
        raise ValueError(f"a covariance needs at least two samples, got {count}")
    centred = latents - latents.mean(0, keepdim=True)
    total = centred.square().sum() / (count - 1)
    # Both views once: rows are places or channels, columns all the rest.
    by_place = centred.permute(2, 0, 1).reshape(places, count * channels)
    by_channel = centred.permute(1, 0, 2).reshape(channels, count * places)
    space: Tensor = start.space if start is not None else torch.eye(places, dtype=latents.dtype, device=latents.device)
    channel: Tensor = torch.eye(channels, dtype=latents.dtype, device=latents.device)
    shrinkage = 0.0
    for _ in range(num_iterations):
        white = torch.linalg.solve_triangular(_factor(space), by_place, upper=False).reshape(-1, channels)
        channel, _ = shrunk_covariance(white, (count - 1) * places)
        white = torch.linalg.solve_triangular(_factor(channel), by_channel, upper=False)
        space, shrinkage = shrunk_covariance(white.reshape(channels * count, places), (count - 1) * channels)
    scale = total / (space.trace() * channel.trace()).clamp_min(1e-300)
    return KroneckerCovariance(space=space * scale, channel=channel, shrinkage=shrinkage)


def _factor(covariance: Float[Tensor, "k k"]) -> Float[Tensor, "k k"]:
    """Lower Cholesky factor after the ridge."""
    size = len(covariance)
    ridge = RIDGE * covariance.trace() / size + 1e-300
    identity = torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    factor: Tensor = torch.linalg.cholesky(covariance + ridge * identity)
    return factor


def irreducible_variance(eigenvalues: Float[Tensor, " d"], time: float) -> float:
    """``I(t) = mean_i l_i / (t^2 + (1-t)^2 l_i)``: the mean variance of ``eps - z`` per dimension given ``z_t``.

    Equation 4 with time reversed, divided by the dimension. A direction without variance has none: its velocity is
    known from ``z_t``.
    """
    positive = eigenvalues[eigenvalues > 0]
    return (positive / (time**2 + (1 - time) ** 2 * positive)).sum().item() / len(eigenvalues)


def integrated_irreducible_variance(eigenvalues: Float[Tensor, " d"]) -> float:
    """``(pi / 2) mean_i sqrt(l_i)``, the integral of ``irreducible_variance`` over uniform times (equation 5).

    White latents of unit variance give pi / 2.
    """
    return math.pi / 2 * eigenvalues.clamp_min(0).sqrt().mean().item()


def trajectory_curvature(eigenvalues: Float[Tensor, " d"], num_times: int = 512) -> float:
    """Mean squared deviation per dimension of the velocity from the straight line between the ends of its trajectory.

    ``S = int_0^1 E |(z_1 - z_0) - v(z_t, t)|^2 dt / d`` (Liu et al. 2023, "Flow Straight and Fast", section 2.2), along
    the exact probability-flow ODE of a Gaussian: a direction of variance ``l`` follows
    ``s(t) = sqrt((1-t)^2 l + t^2)``. 0 is straight. By the midpoint rule.
    """
    time = (torch.arange(num_times, dtype=torch.float64) + 0.5) / num_times
    variance = eigenvalues.double().clamp_min(0).cpu()[:, None]
    scale = ((1 - time) ** 2 * variance + time**2).sqrt()
    slope = (time - (1 - time) * variance) / scale
    return (1 - variance.sqrt() - slope).square().mean().item()
