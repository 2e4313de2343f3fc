"""The difference of a metric between two stages, in pairs where both kept the metric of the same samples."""

import math
from functools import lru_cache

import attrs
import numpy as np
from jaxtyping import Float
from scipy import stats

from diffusability.core.contracts.sample_values import SampleValues, jackknife_error
from diffusability.core.run.values_file import KeptValues

#: From so many samples on the bootstrap is used (below, its intervals are too narrow), up to so many (beyond, the mean
#: of the differences is normal and the t interval is the same).
FEWEST_FOR_BOOTSTRAP, MOST_FOR_BOOTSTRAP = 30, 1000
NUM_RESAMPLES = 2000
#: Differences that vary by less than this share of the values are equal up to rounding.
ROUNDING = 1e-12


@attrs.frozen(kw_only=True)
class PairedInterval:
    """A difference with its standard error, its 95% interval and how that was found."""

    difference: float
    error: float
    low: float
    high: float
    method: str


def obstacle(metric: str, first: KeptValues, second: KeptValues) -> str:
    """Why a metric of two stages cannot be compared in pairs; empty when it can."""
    first_values, second_values = first.metrics.get(metric), second.metrics.get(metric)
    if first_values is None or second_values is None:
        return "no values of single samples were kept"
    if not (np.isfinite(first_values.values).all() and np.isfinite(second_values.values).all()):
        return "some values are not finite"
    same_groups = (first_values.counts is None) == (second_values.counts is None) and (
        first_values.counts is None
        or second_values.counts is None
        or np.array_equal(first_values.counts, second_values.counts)
    )
    if len(first_values.values) < 2 or not same_groups or not np.array_equal(first_values.places, second_values.places):
        return "the samples are not the same"
    if bool(first.images) != bool(second.images):
        return "the images are not known to be the same"
    places = (
        first_values.places.tolist()
        if first_values.counts is None
        else sorted(first.images.keys() & second.images.keys())
    )
    if any(first.images.get(place) != second.images.get(place) for place in places) or (first.images and not places):
        return "the images are not the same"
    return ""


def paired_interval(
    first: float, second: float, first_values: SampleValues, second_values: SampleValues
) -> PairedInterval:
    """Second minus first, of values for which there is no ``obstacle``."""
    difference = second - first
    if first_values.counts is None:
        return _over_samples(difference, first_values.values, second_values.values)
    left_out = second_values.values - first_values.values
    error = jackknife_error(difference, left_out, first_values.counts)
    half = float(stats.t.ppf(0.975, len(left_out) - 1)) * error
    return PairedInterval(
        difference=difference,
        error=error,
        low=difference - half,
        high=difference + half,
        method=f"paired jackknife over {len(left_out)} groups of samples",
    )


def _over_samples(difference: float, first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> PairedInterval:
    count = len(first)
    gains = second - first
    if np.ptp(gains) <= ROUNDING * max(np.abs(first).max(), np.abs(second).max()):
        return PairedInterval(
            difference=difference,
            error=0.0,
            low=difference,
            high=difference,
            method=f"the same difference for all of {count} samples",
        )
    error = float(gains.std(ddof=1)) / math.sqrt(count)
    if FEWEST_FOR_BOOTSTRAP <= count <= MOST_FOR_BOOTSTRAP:
        low, high = _bootstrap(first.tobytes(), second.tobytes())
        return PairedInterval(
            difference=difference, error=error, low=low, high=high, method=f"paired bootstrap over {count} samples"
        )
    half = float(stats.t.ppf(0.975, count - 1)) * error
    return PairedInterval(
        difference=difference,
        error=error,
        low=difference - half,
        high=difference + half,
        method=f"paired t interval over {count} samples",
    )


@lru_cache(maxsize=1024)
def _bootstrap(first: bytes, second: bytes) -> tuple[float, float]:
    """The BCa interval (Efron 1987) of the mean difference. A report asks for the same one several times."""
    pairs = (np.frombuffer(first, dtype=np.float64), np.frombuffer(second, dtype=np.float64))
    interval = stats.bootstrap(
        pairs,
        lambda before, after, axis: (after - before).mean(axis),
        paired=True,
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        batch=200,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)
