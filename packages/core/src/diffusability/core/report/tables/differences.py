"""How far a variant is from the baseline, with a 95% interval, and whether that is more than chance."""

from collections.abc import Sequence

import attrs
import numpy as np
from scipy import stats

from diffusability.core.report.tables.paired_values import obstacle, paired_interval
from diffusability.core.report.tables.seed_statistics import NORMAL_95, Estimate, estimate
from diffusability.core.report.tables.seed_values import SeedValue, distinct_values, same_stage


@attrs.frozen(kw_only=True)
class Difference(Estimate):
    """A difference from the baseline.

    Attributes:
        method: how the interval was found, in a few words; empty where there is none.
        paired: whether samples or seeds were compared one by one.
    """

    method: str = ""
    paired: bool = False

    @property
    def significant(self) -> bool | None:
        """Whether the 95% interval excludes 0; None where there is no interval."""
        if self.low is None or self.high is None:
            return None
        return not self.low <= 0 <= self.high

    def improves(self, higher_is_better: bool | None) -> bool | None:
        """Whether it is for the better; None where it is not significant, and of a metric without a direction."""
        if not self.significant or higher_is_better is None:
            return None
        return (self.mean > 0) == higher_is_better


def difference(baseline: Sequence[SeedValue], variant: Sequence[SeedValue]) -> Difference | None:
    """Variant minus baseline; None where either has no value, and where both are one measurement.

    Equal seeds make pairs, those of the same two stages once. Of several pairs the interval is Student's over seeds,
    with the evaluated images taken as given. Of a single one it is that over the samples: in pairs where both stages
    kept values of the same ones, or else as if they were independent.
    """
    by_seed = {value.seed: value for value in baseline}
    pairs = {
        (value.stage_key, by_seed[value.seed].stage_key): (by_seed[value.seed], value)
        for value in variant
        if value.seed in by_seed
    }
    if pairs and all(same_stage(before, after) for before, after in pairs.values()):
        return None
    known = [
        (before, after)
        for before, after in pairs.values()
        if before.metric.value is not None and after.metric.value is not None
    ]
    if len(known) > 1:
        return _over_seeds([_gain(before, after) for before, after in known])
    if known:
        return _of_one_pair(*known[0])
    if pairs:
        return None
    first, second = distinct_values(baseline), distinct_values(variant)
    if len(first) == 1 and len(second) == 1:
        return _of_one_pair(first[0], second[0])
    return _of_other_seeds(first, second)


def _gain(before: SeedValue, after: SeedValue) -> float:
    assert before.metric.value is not None
    assert after.metric.value is not None
    return after.metric.value - before.metric.value


def _over_seeds(gains: Sequence[float]) -> Difference:
    summary = estimate(gains, [None] * len(gains))
    return Difference(
        mean=summary.mean,
        std=summary.std,
        low=summary.low,
        high=summary.high,
        num_seeds=summary.num_seeds,
        method=f"paired t interval over {len(gains)} seeds",
        paired=True,
    )


def _of_one_pair(before: SeedValue, after: SeedValue) -> Difference:
    gain = _gain(before, after)
    if same_stage(before, after):
        return Difference(mean=gain, std=None, low=None, high=None, num_seeds=1)
    name = after.metric.name
    first, second = before.stage.kept, after.stage.kept
    reason = obstacle(name, first, second)
    if not reason:
        assert before.metric.value is not None
        assert after.metric.value is not None
        interval = paired_interval(before.metric.value, after.metric.value, first.metrics[name], second.metrics[name])
        return Difference(
            mean=gain, std=None, low=interval.low, high=interval.high, num_seeds=1, method=interval.method, paired=True
        )
    spreads = [value.metric.spread for value in (before, after)]
    if None in spreads:
        return Difference(mean=gain, std=None, low=None, high=None, num_seeds=1)
    half = NORMAL_95 * float(np.linalg.norm([spread for spread in spreads if spread is not None]))
    return Difference(
        mean=gain, std=None, low=gain - half, high=gain + half, num_seeds=1, method=f"unpaired, since {reason}"
    )


def _of_other_seeds(first: Sequence[SeedValue], second: Sequence[SeedValue]) -> Difference | None:
    """Of variants without a seed in common: Welch's interval, where both have several."""
    before, after = (np.array([value.metric.value for value in values], dtype=np.float64) for values in (first, second))
    if not len(before) or not len(after):
        return None
    gain, low, high = float(after.mean() - before.mean()), None, None
    if len(before) > 1 and len(after) > 1 and (np.ptp(before) > 0 or np.ptp(after) > 0):
        interval = stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
        low, high = float(interval.low), float(interval.high)
    return Difference(
        mean=gain,
        std=None,
        low=low,
        high=high,
        num_seeds=min(len(before), len(after)),
        method="" if low is None else "unpaired Welch interval, since no seed is the same",
    )
