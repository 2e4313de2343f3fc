"""A metric of a variant over its seeds."""

from collections.abc import Sequence

import attrs

from diffusability.core.report.comparison import VariantGroup
from diffusability.core.report.tables.seed_statistics import Estimate, estimate
from diffusability.core.run.folder_reader import Stage
from diffusability.core.run.results import Metric


@attrs.frozen(kw_only=True, eq=False)
class SeedValue:
    """A metric with one seed, and the stage that measured it."""

    seed: int | None
    stage: Stage
    metric: Metric

    @property
    def stage_key(self) -> object:
        """What is equal for variants that share the stage."""
        return self.stage.directory or id(self.stage)


def seed_values(group: VariantGroup, stage_name: str, metric: str) -> list[SeedValue]:
    """A metric with each seed of a variant, where it is measured. Its value may be None."""
    measured = []
    for member in group.members:
        stage = member.stages.get(stage_name)
        if stage is not None and metric in stage.metrics:
            measured.append(SeedValue(seed=member.seed, stage=stage, metric=stage.metrics[metric]))
    return measured


def same_stage(first: SeedValue, second: SeedValue) -> bool:
    """Whether both are one measurement."""
    return first.stage_key == second.stage_key


def distinct_values(values: Sequence[SeedValue]) -> list[SeedValue]:
    """Those with a finite value; a stage that several seeds share counts once."""
    return list({value.stage_key: value for value in values if value.metric.value is not None}.values())


def over_seeds(values: Sequence[SeedValue]) -> Estimate | None:
    """Its mean over seeds. None without a finite value."""
    known = [
        (value.metric.value, value.metric.spread) for value in distinct_values(values) if value.metric.value is not None
    ]
    return estimate([value for value, _ in known], [spread for _, spread in known]) if known else None
