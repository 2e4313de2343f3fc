"""A metric of a variant over its seeds, and beside the first variant's with the same seeds."""

from collections.abc import Sequence

import attrs

from diffusability.core.report.comparison import VariantGroup
from diffusability.core.report.results import Metric
from diffusability.core.report.run_folder import Stage
from diffusability.core.report.seed_statistics import Estimate, estimate, paired_difference


@attrs.frozen(kw_only=True, eq=False)
class SeedValue:
    """A metric with one seed, and the stage that measured it."""

    seed: int | None
    stage: Stage
    metric: Metric


def seed_values(group: VariantGroup, stage_name: str, metric: str) -> list[SeedValue]:
    """A metric with each seed of a variant, where it is measured. Its value may be None."""
    found = []
    for member in group.members:
        stage = member.stages.get(stage_name)
        if stage is not None and metric in stage.metrics:
            found.append(SeedValue(seed=member.seed, stage=stage, metric=stage.metrics[metric]))
    return found


def over_seeds(values: Sequence[SeedValue]) -> Estimate | None:
    """Its mean over seeds; a stage that several seeds share counts once. None without a finite value."""
    distinct = {_identity(value): value for value in values if value.metric.value is not None}
    known = [(value.metric.value, value.metric.spread) for value in distinct.values() if value.metric.value is not None]
    return estimate([value for value, _ in known], [spread for _, spread in known]) if known else None


def over_equal_seeds(first: Sequence[SeedValue], second: Sequence[SeedValue]) -> Estimate | None:
    """Second minus first over the seeds that both have; pairs of the same two stages count once.

    None where no seed has both, and where both are the same stages: that is no difference but one measurement.
    """
    baseline = {value.seed: value for value in first}
    pairs = {
        (_identity(baseline[value.seed]), _identity(value)): (baseline[value.seed].metric, value.metric)
        for value in second
        if value.seed in baseline
    }
    known = [
        ((one.value, None if same else one.spread), (other.value, None if same else other.spread))
        for (before, after), (one, other) in pairs.items()
        for same in [before == after]
        if one.value is not None and other.value is not None
    ]
    if not known or all(before == after for before, after in pairs):
        return None
    return paired_difference([one for one, _ in known], [other for _, other in known])


def _identity(value: SeedValue) -> object:
    return value.stage.directory or id(value.stage)
