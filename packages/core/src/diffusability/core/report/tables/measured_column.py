"""A metric of a stage over variants, before it is shown: what the tables of a report have in common."""

from collections.abc import Sequence

import attrs

from diffusability.core.report.comparison import VariantGroup
from diffusability.core.report.tables.comparability import disagreement
from diffusability.core.report.tables.differences import Difference, difference
from diffusability.core.report.tables.number_format import column_decimals
from diffusability.core.report.tables.seed_statistics import Estimate
from diffusability.core.report.tables.seed_values import SeedValue, over_seeds, seed_values
from diffusability.core.run.metric_names import info_of, named_info
from diffusability.core.run.results import Metric
from diffusability.core.specs.metric_info import MetricInfo


@attrs.frozen(kw_only=True, eq=False)
class MeasuredColumn:
    """A metric of a stage over variants, in their order. The first variant is the baseline.

    Attributes:
        seeds: the values of each variant, one for each seed; empty for a variant without results.
        estimates: over seeds; None where a variant has no value.
        differences: from the first variant; None for itself and where there is none.
        higher_is_better: None for a metric without a direction, or with several.
        decimals: of its numbers; None for scientific notation.
        best: places of the best value and its ties.
        first: the first metric that has a value, or else the first at all; None where nothing was measured.
        info: what readers see of it.
        warning: why the values may not be comparable, or empty.
    """

    seeds: Sequence[Sequence[SeedValue]]
    estimates: Sequence[Estimate | None]
    differences: Sequence[Difference | None]
    higher_is_better: bool | None
    decimals: int | None
    best: set[int]
    first: Metric | None
    info: MetricInfo
    warning: str

    @property
    def means(self) -> list[float | None]:
        """The value of each variant."""
        return [None if estimate is None else estimate.mean for estimate in self.estimates]

    @property
    def metrics(self) -> list[Metric]:
        """What was measured, with a value or without."""
        return [value.metric for values in self.seeds for value in values]


def best_places(values: Sequence[float | None], higher_is_better: bool | None) -> set[int]:
    """Places of the best value and its ties. Empty without a direction, without a rival, or when all are equal."""
    known = [value for value in values if value is not None]
    if higher_is_better is None or len(set(known)) < 2:
        return set()
    best = max(known) if higher_is_better else min(known)
    return {place for place, value in enumerate(values) if value == best}


def measured_column(groups: Sequence[VariantGroup | None], stage: str, metric: str) -> MeasuredColumn:
    """Gathers a metric of a stage; None stands for a variant that the comparison does not have."""
    seeds = [[] if group is None else seed_values(group, stage, metric) for group in groups]
    measured = [value.metric for values in seeds for value in values]
    with_value = [measurement for measurement in measured if measurement.value is not None]
    first = next(iter(with_value or measured), None)
    directions = {measurement.higher_is_better for measurement in with_value or measured}
    direction = directions.pop() if len(directions) == 1 else None
    estimates = [over_seeds(values) for values in seeds]
    means = [None if estimate is None else estimate.mean for estimate in estimates]
    return MeasuredColumn(
        seeds=seeds,
        estimates=estimates,
        differences=[difference(seeds[0], values) if place else None for place, values in enumerate(seeds)],
        higher_is_better=direction,
        decimals=column_decimals([mean for mean in means if mean is not None]),
        best=best_places(means, direction),
        first=first,
        info=named_info(metric) if first is None else info_of(first),
        warning=disagreement(with_value),
    )
