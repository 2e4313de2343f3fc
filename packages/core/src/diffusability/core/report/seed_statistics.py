"""Mean, standard deviation and interval of a metric over seeds; the paired difference of two variants."""

from collections.abc import Sequence
from functools import lru_cache

import attrs
import numpy as np
from jaxtyping import Float, Int

#: Standard deviations on both sides of the mean that hold 95% of a normal distribution.
NORMAL_95 = 1.959963984540054


@attrs.frozen(kw_only=True)
class Estimate:
    """A quantity measured with one or several seeds.

    Attributes:
        mean: over seeds.
        std: standard deviation over seeds (n - 1), or None with one seed.
        low: lower end of the 95% interval, or None where nothing is known of the spread.
        high: its upper end.
        num_seeds: how many seeds there are.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    num_seeds: int


def estimate(
    values: Sequence[float], spreads: Sequence[float | None], num_replicates: int = 10_000, seed: int = 0
) -> Estimate:
    """Mean, standard deviation and 95% interval of one value per seed.

    The interval is a percentile bootstrap over seeds, in which each drawn value also gets a normal deviate of its own
    spread within the run (such as that over bootstrap samples of images), where it has one: with one seed that is the
    normal interval of this spread, and without any spread there is none. Of two or three seeds a percentile bootstrap
    is too narrow by its nature (Efron & Tibshirani 1993, chapter 13); the interval of two equal seeds is a point.

    Args:
        values: a value per seed, at least one.
        spreads: standard deviation of each value within its run, or None.
        num_replicates: bootstrap samples.
        seed: of what is drawn, so that a report can be repeated.
    """
    mean = float(np.mean(values))
    jitter = np.array([spread or 0.0 for spread in spreads])
    if len(values) == 1:
        half = NORMAL_95 * float(jitter[0]) if spreads[0] is not None else None
        low, high = (None, None) if half is None else (mean - half, mean + half)
        return Estimate(mean=mean, std=None, low=low, high=high, num_seeds=1)
    chosen, deviates = _draws(len(values), num_replicates, seed)
    drawn = np.asarray(values)[chosen] + jitter[chosen] * deviates
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    std = float(np.std(values, ddof=1))
    return Estimate(mean=mean, std=std, low=float(low), high=float(high), num_seeds=len(values))


@lru_cache(maxsize=8)
def _draws(
    count: int, num_replicates: int, seed: int
) -> tuple[Int[np.ndarray, "replicate count"], Float[np.ndarray, "replicate count"]]:
    """Which values each bootstrap sample takes, and a standard normal deviate for each: the same for all cells."""
    generator = np.random.default_rng(seed)
    chosen = generator.integers(count, size=(num_replicates, count))
    return chosen, generator.standard_normal(chosen.shape)


def paired_difference(
    first: Sequence[tuple[float, float | None]], second: Sequence[tuple[float, float | None]]
) -> Estimate:
    """Second minus first, seed by seed, each as value and spread within its run.

    The spreads of a pair add up in squares, as if independent: an upper bound where both were measured on the same
    images.
    """
    values = [after - before for (before, _), (after, _) in zip(first, second, strict=True)]
    spreads = [_joint(before, after) for (_, before), (_, after) in zip(first, second, strict=True)]
    return estimate(values, spreads)


def _joint(first: float | None, second: float | None) -> float | None:
    known = [spread for spread in (first, second) if spread is not None]
    return float(np.linalg.norm(known)) if known else None
