import itertools
import math

import pytest
import torch
from scipy.integrate import quad

from diffusability.core.errors import NotFiniteError
from diffusability.eval.predictors.standardization import standardized
from diffusability.eval.predictors.viv import (
    integrated_irreducible_variance,
    irreducible_variance,
    kronecker_covariance,
    shrunk_covariance,
    spatial_frequencies,
    trajectory_curvature,
)

EIGENVALUES = torch.tensor([3.0, 1.0, 0.25, 0.01], dtype=torch.float64)


def covariance(size, seed):
    factor = torch.randn(size, 2 * size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return factor @ factor.T / (2 * size)


def test_white_latents_of_unit_variance_give_half_pi():
    """Closed form: (pi / 2) mean sqrt(1)."""
    assert integrated_irreducible_variance(torch.ones(7, dtype=torch.float64)) == pytest.approx(math.pi / 2)


def test_the_integral_over_time_is_the_closed_form():
    """Equation 5 against scipy's adaptive quadrature of equation 4."""
    integral, _ = quad(lambda time: irreducible_variance(EIGENVALUES, time), 0, 1, limit=200)
    assert integral == pytest.approx(integrated_irreducible_variance(EIGENVALUES), rel=1e-6)


@pytest.mark.parametrize("time", [0.2, 0.7])
def test_irreducible_variance_is_the_residual_of_the_best_predictor(time):
    """Against the residual variance of a linear regression of eps - z on z_t, which is optimal for a Gaussian."""
    generator = torch.Generator().manual_seed(0)
    data = math.sqrt(3.0) * torch.randn(200_000, dtype=torch.float64, generator=generator)
    noise = torch.randn(200_000, dtype=torch.float64, generator=generator)
    state, velocity = (1 - time) * data + time * noise, noise - data
    residual = velocity - (velocity @ state) / (state @ state) * state
    expected = irreducible_variance(torch.tensor([3.0], dtype=torch.float64), time)
    assert residual.var().item() == pytest.approx(expected, rel=0.02)


def test_directions_without_variance_have_no_ambiguity():
    assert irreducible_variance(torch.tensor([0.0, 0.0], dtype=torch.float64), 0.0) == 0.0


def test_the_flip_flop_fit_recovers_a_separable_covariance():
    """Samples of a matrix normal with known factors, against their Kronecker product."""
    space, channel = covariance(6, 1), covariance(3, 2)
    noise = torch.randn(20_000, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    latents = torch.linalg.cholesky(channel) @ noise @ torch.linalg.cholesky(space).T
    fitted = kronecker_covariance(latents)
    expected = torch.kron(space, channel)
    error = torch.linalg.matrix_norm(torch.kron(fitted.space, fitted.channel) - expected)
    assert error / torch.linalg.matrix_norm(expected) < 0.02
    exact = torch.linalg.eigvalsh(expected)
    assert torch.allclose(fitted.eigenvalues().sort().values, exact, rtol=0.1)


def test_the_fit_keeps_the_total_variance_of_few_samples():
    """The trace against the sum of the variances of all dimensions, with far fewer samples than dimensions."""
    latents = torch.randn(4, 5, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    total = latents.var(0).sum()
    assert kronecker_covariance(latents).eigenvalues().sum().item() == pytest.approx(total.item(), rel=1e-9)


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="at least two samples, got 1"):
        kronecker_covariance(torch.zeros(1, 2, 4, dtype=torch.float64))


def test_standardized_channels_have_unit_variance_and_constant_ones_are_left_out():
    latents = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(5)) * 7 + 2
    latents[:, 1] = 5.0
    result = standardized(latents)
    flat = result.flatten(2)
    assert torch.allclose(flat.mean((0, 2)), torch.zeros(2, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(flat.square().mean((0, 2)), torch.ones(2, dtype=torch.float64))


def test_numbers_that_are_not_finite_are_not_standardized():
    """They used to become 0, and the velocity variance with them: the best value there is."""
    latents = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    latents[2, 1, 0, 0] = math.nan
    with pytest.raises(NotFiniteError, match=r"viv: latents of sample 2 are not finite \(1 of 384 values"):
        standardized(latents, "viv")


def test_correlations_are_shrunk_as_by_schafer_and_strimmer():
    """Against the paper's sums, written out over pairs."""
    rows = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(6)) @ covariance(5, 7)
    shrunk, shrinkage = shrunk_covariance(rows, 12)
    sample = rows.T @ rows / 12
    unit = rows / sample.diagonal().sqrt()
    noise, signal = 0.0, 0.0
    for i, j in itertools.permutations(range(5), 2):
        products = unit[:, i] * unit[:, j]
        noise += (products - products.mean()).square().sum().item() / (12 * 11)
        signal += products.mean().item() ** 2
    assert shrinkage == pytest.approx(min(1.0, noise / signal), rel=1e-9)
    assert torch.allclose(shrunk.diagonal(), sample.diagonal())
    off = ~torch.eye(5, dtype=torch.bool)
    assert torch.allclose(shrunk[off], (1 - shrinkage) * sample[off])


def autoregressive(size, correlation):
    """Covariance of an AR(1) process of unit variance."""
    place = torch.arange(size)
    return correlation ** (place[:, None] - place).abs().double()


#: Correlation of neighbouring rows and columns, and of neighbouring channels.
PROCESSES = ((0.0, 0.0), (0.5, 0.3), (0.9, 0.3), (0.98, 0.0))


def autoregressive_latents(count, side, places, channels, seed):
    noise = torch.randn(count, 4, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    factor = torch.linalg.cholesky(autoregressive(side, places))
    mixed = torch.linalg.cholesky(autoregressive(4, channels)) @ (factor @ noise @ factor.T).flatten(2)
    return mixed.view_as(noise)


def autoregressive_truth(side, places, channels):
    """Closed form: eigenvalues of a Kronecker product are the products of those of its factors."""
    roots = [
        torch.linalg.eigvalsh(autoregressive(*correlated)).sqrt().mean()
        for correlated in ((side, places), (4, channels))
    ]
    return math.pi / 2 * (roots[0] ** 2 * roots[1]).item()


def estimate(latents):
    fit = kronecker_covariance(spatial_frequencies(standardized(latents)))
    return integrated_irreducible_variance(fit.eigenvalues())


@pytest.mark.parametrize(("count", "draws", "most"), [(8, 8, 0.1), (64, 2, 0.05), (256, 1, 0.04)])
def test_few_samples_give_the_velocity_variance_of_the_process(count, draws, most):
    """Against the closed form of AR(1) processes on 4x16x16, whose order is kept.

    The mean over draws: the smoothest process has few independent places, and its single draws of 8 samples deviate by
    8%. Without shrinkage white latents give 0.3 of the truth at 8 samples.
    """
    estimates = [
        sum(estimate(autoregressive_latents(count, 16, *process, seed)) for seed in range(draws)) / draws
        for process in PROCESSES
    ]
    truths = [autoregressive_truth(16, *process) for process in PROCESSES]
    assert estimates == pytest.approx(truths, rel=most)
    assert sorted(estimates, reverse=True) == estimates


@pytest.mark.parametrize("shape", [(8, 1, 16, 16), (8, 16, 16, 16), (8, 4, 4, 4), (8, 4, 24, 24)])
def test_the_number_of_channels_and_the_grid_do_not_bias_white_latents(shape):
    """White latents give pi / 2 whatever their shape; sample covariances reward few channels and large grids."""
    latents = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    assert estimate(latents) == pytest.approx(math.pi / 2, rel=0.05)


@pytest.mark.parametrize("variance", [0.3, 1.0, 4.0])
def test_curvature_is_that_of_simulated_trajectories(variance):
    """Against Euler steps of the exact velocity field of a one-dimensional Gaussian, averaged over starting points."""
    steps = 4000
    start = torch.randn(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    start = (start - start.mean()) / start.std(correction=0)
    state, velocities = start.clone(), []
    for step in range(steps):
        time = 1 - step / steps  # from noise down to data
        velocity = (time - (1 - time) * variance) / ((1 - time) ** 2 * variance + time**2) * state
        velocities.append(velocity)
        state = state - velocity / steps
    simulated = torch.stack([(start - state - velocity).square().mean() for velocity in velocities]).mean()
    exact = trajectory_curvature(torch.tensor([variance], dtype=torch.float64))
    assert exact == pytest.approx(simulated.item(), rel=0.01)
