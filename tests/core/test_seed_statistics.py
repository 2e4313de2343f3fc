"""Intervals over seeds against scipy's bootstrap, closed forms and what they must not depend on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diffusability.core.report.seed_statistics import estimate, paired_difference

VALUES = st.lists(st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 4)), min_size=2, max_size=8)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_interval_without_spreads_is_scipys_percentile_bootstrap(count):
    """scipy.stats.bootstrap of the mean, up to the noise of 10,000 samples each; numpy's mean and n-1 deviation."""
    values = np.random.default_rng(count).normal(30, 2, count)
    found = estimate(values.tolist(), [None] * count)
    reference = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=1).confidence_interval
    noise = 0.05 * values.std()
    assert found.low == pytest.approx(reference.low, abs=noise)
    assert found.high == pytest.approx(reference.high, abs=noise)
    assert (found.mean, found.std) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert found.num_seeds == count


@pytest.mark.parametrize("count", [2, 3, 7])
def test_equal_values_have_the_interval_of_their_spreads(count):
    """Closed form: the mean of n draws of N(v, s^2) is N(v, s^2 / n)."""
    found = estimate([5.0] * count, [0.3] * count)
    half = stats.norm.ppf(0.975) * 0.3 / np.sqrt(count)
    assert (found.low, found.high) == pytest.approx((5 - half, 5 + half), abs=0.03 * half)
    assert found.std == 0


def test_spreads_within_runs_add_to_the_spread_over_seeds():
    """Closed form of the variance of a bootstrap mean: (population variance + mean square of the spreads) / n."""
    values = np.linspace(0, 1, 12)
    spreads = 0.2 + abs(values - 0.5)  # symmetric, as the normal distribution that it is held against
    found = estimate(values.tolist(), spreads.tolist(), num_replicates=40_000)
    half = stats.norm.ppf(0.975) * np.sqrt((values.var() + (spreads**2).mean()) / 12)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.03 * half)


def test_one_seed_has_the_interval_of_its_run_or_none():
    found = estimate([2.0], [0.5])
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.95, 2.0, 0.5))
    assert found.std is None
    bare = estimate([2.0], [None])
    assert (bare.mean, bare.std, bare.low, bare.high, bare.num_seeds) == (2.0, None, None, None, 1)


@settings(max_examples=25)
@given(VALUES, st.floats(0.1, 10), st.floats(-50, 50))
def test_estimates_follow_shifts_and_scales(values, scale, shift):
    """Units do not matter; and no interval without spreads leaves the values."""
    plain, moved = (
        estimate(numbers, [None] * len(values), num_replicates=500)
        for numbers in (values, [scale * value + shift for value in values])
    )
    for name in ("mean", "low", "high"):
        assert getattr(moved, name) == pytest.approx(scale * getattr(plain, name) + shift, abs=1e-8)
    assert moved.std == pytest.approx(scale * plain.std, abs=1e-8)
    assert min(values) - 1e-9 <= plain.low <= plain.high <= max(values) + 1e-9


@settings(max_examples=25)
@given(VALUES, st.floats(-5, 5))
def test_what_a_seed_adds_to_both_variants_is_no_difference(values, gain):
    """Pairs that differ by a constant have that difference, without any spread over seeds."""
    found = paired_difference([(value, None) for value in values], [(value + gain, None) for value in values])
    assert (found.mean, found.low, found.high) == pytest.approx((gain, gain, gain), abs=1e-9)
    assert found.std == pytest.approx(0, abs=1e-9)


def test_spreads_of_a_pair_add_in_squares():
    """One seed, closed form: 3-4-5."""
    found = paired_difference([(1.0, 0.3)], [(2.0, 0.4)])
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.95, 1.0, 0.5))
    assert paired_difference([(1.0, None)], [(2.0, 0.4)]).high == pytest.approx(stats.norm.interval(0.95, 1.0, 0.4)[1])


def test_estimates_can_be_repeated():
    assert estimate([1.0, 2.0, 4.0], [0.1, 0.2, None]) == estimate([1.0, 2.0, 4.0], [0.1, 0.2, None])
