"""The formulas of power-function averages, against numerical integration and against averages that were tracked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from diffusability.core.numerics.power_function import (
    LARGEST_SIGMA_REL,
    gamma_of,
    inner_products,
    newest_share,
    reconstruction_coefficients,
)


def profile(time, gamma):
    """``p(tau)`` of an average, as a function that is 0 after its time."""
    return lambda tau: (gamma + 1) * tau**gamma / time ** (gamma + 1) if tau <= time else 0.0


@given(st.floats(0.01, LARGEST_SIGMA_REL))
def test_gamma_belongs_to_its_width(sigma_rel):
    """There and back, and against the published pair: width 0.05 is gamma 16.97, 0.10 is 6.94."""
    gamma = gamma_of(sigma_rel)
    width = (gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5)  # of the profile, section 3 of arXiv 2312.02696
    assert width == pytest.approx(sigma_rel, rel=1e-6)
    assert gamma_of(0.05) == pytest.approx(16.97, abs=0.005)
    assert gamma_of(0.10) == pytest.approx(6.94, abs=0.005)


def test_the_width_is_the_standard_deviation_of_the_profile():
    """Against numerical integration of the profile's moments at time 1."""
    for sigma_rel in (0.05, 0.15, 0.25):
        density = profile(1.0, gamma_of(sigma_rel))
        mean = quad(lambda tau, p=density: tau * p(tau), 0, 1)[0]
        variance = quad(lambda tau, p=density, mean=mean: (tau - mean) ** 2 * p(tau), 0, 1)[0]
        assert np.sqrt(variance) == pytest.approx(sigma_rel, rel=1e-6)


def test_inner_products_are_integrals():
    """Each product of two profiles, of times in either order, against quad."""
    times, gammas = np.array([3.0, 7.0, 7.0]), np.array([2.5, 6.9, 17.0])
    products = inner_products(times, gammas, times, gammas)
    for row in range(3):
        for column in range(3):
            first, second = profile(times[row], gammas[row]), profile(times[column], gammas[column])
            end = min(times[row], times[column])
            integral = quad(lambda tau, f=first, g=second: f(tau) * g(tau), 0, end)[0]
            assert products[row, column] == pytest.approx(integral, rel=1e-7)  # quad promises 1.5e-8


def test_inner_products_do_not_overflow():
    """Widths and times of a long run with narrow averages."""
    times, gammas = np.array([1.0, 2e6]), np.array([gamma_of(0.005), gamma_of(0.28)])
    assert np.isfinite(inner_products(times, gammas, times, gammas)).all()


def tracked(weights, gamma):
    """The average after each update, by its recursion."""
    average, averages = np.zeros_like(weights[0]), []
    for number, value in enumerate(weights, 1):
        average = average + newest_share(number, gamma) * (value - average)
        averages.append(average)
    return averages


@pytest.mark.parametrize(("sigma_rel", "largest_error"), [(0.05, 1e-9), (0.07, 2e-3), (0.15, 3e-3), (0.20, 1e-2)])
def test_widths_chosen_afterwards_are_near_those_tracked(sigma_rel, largest_error):
    """A random walk that drifts, 4,096 steps of which 32 pairs of snapshots are kept: the error of what is made from
    them relative to how far the tracked average is from the last weights; a stored width comes back as it was.

    The products of these profiles have a condition of 1e5, so that coefficients are known to 2e-11; their sum, of terms
    of size 2 in all, is held to 1 and known to 64 eps.
    """
    walk = np.random.default_rng(0).normal(size=(4096, 16)).cumsum(0) / 64 + np.linspace(100, 103, 4096)[:, None]
    stored = {width: tracked(walk, gamma_of(width)) for width in (0.05, 0.10)}
    times = [128 * number for number in range(1, 33)]
    snapshots = [(time, gamma_of(width), stored[width][time - 1]) for time in times for width in stored]
    coefficients = reconstruction_coefficients(
        [time for time, _, _ in snapshots], [gamma for _, gamma, _ in snapshots], 4096, gamma_of(sigma_rel)
    )
    made = sum(share * value for share, (_, _, value) in zip(coefficients, snapshots, strict=True))
    wanted = tracked(walk, gamma_of(sigma_rel))[-1]
    assert coefficients.sum() == pytest.approx(1, abs=2 * 64 * np.finfo(float).eps)
    assert np.linalg.norm(made - wanted) <= largest_error * np.linalg.norm(wanted - walk[-1])
