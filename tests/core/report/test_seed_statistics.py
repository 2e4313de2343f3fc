"""Intervals over seeds against scipy's t interval, closed forms and what they must not depend on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diffusability.core.report.tables.seed_statistics import estimate

VALUES = st.lists(st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 4)), min_size=2, max_size=8)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_interval_over_seeds_is_students(count):
    """scipy's t interval; numpy's mean and n-1 deviation. Spreads within runs are part of the deviation over seeds."""
    values = np.random.default_rng(count).normal(30, 2, count)
    estimated = estimate(values.tolist(), [0.1] * count)
    reference = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert (estimated.low, estimated.high) == pytest.approx(reference)
    assert (estimated.mean, estimated.std) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert estimated.num_seeds == count


def test_three_seeds_are_covered_as_often_as_said():
    """1,000 draws of three: 95% within 3 standard errors; a percentile bootstrap of three covers about 70%."""
    draws = np.random.default_rng(0).normal(size=(1000, 3))
    estimates = [estimate(values.tolist(), [None] * 3) for values in draws]
    assert np.mean([estimated.low <= 0 <= estimated.high for estimated in estimates]) == pytest.approx(0.95, abs=0.021)


def test_one_seed_has_the_interval_of_its_run_or_none():
    estimated = estimate([2.0], [0.5])
    assert (estimated.low, estimated.high) == pytest.approx(stats.norm.interval(0.95, 2.0, 0.5))
    assert estimated.std is None
    bare = estimate([2.0], [None])
    assert (bare.mean, bare.std, bare.low, bare.high, bare.num_seeds) == (2.0, None, None, None, 1)


@settings(max_examples=25)
@given(VALUES, st.floats(0.1, 10), st.floats(-50, 50))
def test_estimates_follow_shifts_and_scales(values, scale, shift):
    """Units do not matter.

    Numbers up to 1e3 are known to 1e3 eps from their mean, times Student's t, up to 13: 3e-12.
    """
    plain, moved = (
        estimate(numbers, [None] * len(values)) for numbers in (values, [scale * value + shift for value in values])
    )
    for name in ("mean", "low", "high"):
        assert getattr(moved, name) == pytest.approx(scale * getattr(plain, name) + shift, abs=1e-8)
    assert moved.std == pytest.approx(scale * plain.std, abs=1e-8)
