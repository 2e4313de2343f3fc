"""Mean, standard deviation and interval of a metric over seeds."""

import math
from collections.abc import Sequence

import attrs
import numpy as np
from scipy import stats

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


def estimate(values: Sequence[float], spreads: Sequence[float | None]) -> Estimate:
    """Mean, standard deviation and 95% interval of one value per seed.

    With several seeds, Student's t interval over seeds: a percentile bootstrap over three seeds would cover the truth
    far less often than it says (Efron & Tibshirani 1993, chapter 13). It holds for the evaluated images, which are the
    same for all seeds. With one seed, the normal interval of the value's own spread, where it has one.

    Args:
        values: a value per seed, at least one.
        spreads: standard deviation of each value within its run, or None.
    """
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        half = None if spreads[0] is None else NORMAL_95 * spreads[0]
        low, high = (None, None) if half is None else (mean - half, mean + half)
        return Estimate(mean=mean, std=None, low=low, high=high, num_seeds=1)
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, count - 1)) * std / math.sqrt(count)
    return Estimate(mean=mean, std=std, low=mean - half, high=mean + half, num_seeds=count)
