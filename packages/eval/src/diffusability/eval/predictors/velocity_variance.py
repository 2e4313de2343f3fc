"""Ambiguity of the velocity that a denoiser has to predict, of latents that are modelled as a Gaussian.

"Diffusing in the Right Space" (arXiv 2606.03578), equations 3 to 6. Time here runs from data at 0 to noise at 1.
"""

import math

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

#: Added to the eigenvalues of a factor, as a share of their mean: with few samples a factor is singular.
RIDGE = 1e-6


@attrs.frozen(kw_only=True, eq=False)
class KroneckerCovariance:
    """``S = space (x) channel``, both symmetric; their product has the variance of the sample it was fitted to."""

    space: Float[Tensor, "s s"]
    channel: Float[Tensor, "c c"]

    def eigenvalues(self) -> Float[Tensor, " d"]:
        """All ``s * c`` eigenvalues, unsorted, not negative."""
        space = torch.linalg.eigvalsh(self.space).clamp_min(0)
        channel = torch.linalg.eigvalsh(self.channel).clamp_min(0)
        return torch.outer(space, channel).flatten()


def standardized(latents: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c s"]:
    """Latents with each channel at mean 0 and variance 1 over samples and places, places in one axis, in float64.

    A constant channel becomes 0.
    """
    flat = latents.double().flatten(2)
    mean = flat.mean((0, 2), keepdim=True)
    std = flat.std((0, 2), keepdim=True, correction=0)
    return torch.where(std > 1e-12, (flat - mean) / std.clamp_min(1e-12), torch.zeros_like(flat))


def kronecker_covariance(
    latents: Float[Tensor, "n c s"], num_iterations: int = 5, start: KroneckerCovariance | None = None
) -> KroneckerCovariance:
    """Fits ``S_space (x) S_channel`` by the flip-flop algorithm (Dutilleul 1999), scaled to the total variance.

    Each iteration estimates the channels' covariance from latents that are white in space, and the other way round,
    from ``start`` on (default: white in space). A ridge of 1e-6 of the mean eigenvalue keeps factors of few samples
    regular.

    Raises:
        ValueError: fewer than two samples.
    """
    count, channels, places = latents.shape
    if count < 2:
        raise ValueError(f"a covariance needs at least two samples, got {count}")
    centred = latents - latents.mean(0, keepdim=True)
    total = centred.square().sum() / count
    # Both views once: rows are places or channels, columns all the rest.
    by_place = centred.permute(2, 0, 1).reshape(places, count * channels)
    by_channel = centred.permute(1, 0, 2).reshape(channels, count * places)
    space: Tensor = start.space if start is not None else torch.eye(places, dtype=latents.dtype, device=latents.device)
    channel: Tensor = torch.eye(channels, dtype=latents.dtype, device=latents.device)
    for _ in range(num_iterations):
        white = torch.linalg.solve_triangular(_factor(space), by_place, upper=False).reshape(-1, channels)
        channel = white.T @ white / (count * places)
        white = torch.linalg.solve_triangular(_factor(channel), by_channel, upper=False)
        flat = white.reshape(channels * count, places)
        space = flat.T @ flat / (count * channels)
    scale = total / (space.trace() * channel.trace()).clamp_min(1e-300)
    return KroneckerCovariance(space=space * scale, channel=channel)


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
