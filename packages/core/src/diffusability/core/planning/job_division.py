"""Which stages of a run can be worked on at the same time."""

from collections import Counter
from collections.abc import Sequence

import attrs

from diffusability.core.errors import SpecError
from diffusability.core.planning.plan import Plan, PlannedStage

#: The environment variable in which the command line hands a process the stages of its job.
VARIABLE = "DFZ_JOB"


@attrs.frozen(kw_only=True, eq=False)
class Job:
    """Stages that run one after another in one process: what the same variants share.

    Attributes:
        name: the variant's name, or the first stage's where several variants share it; with the first of these
            variants, where other jobs have the same first stage.
        stages: in the order in which they run.
        needs: folders' names of the stages of other jobs that must be done before.
    """

    name: str
    stages: Sequence[PlannedStage]
    needs: frozenset[str]


def jobs_of(stages: Sequence[PlannedStage]) -> list[Job]:
    """Divides stages into jobs, in the order of their first stages.

    A stage's inputs belong to its own job or to one of more variants, so that jobs never wait for each other in a
    circle.
    """
    by_variants: dict[tuple[str, ...], list[PlannedStage]] = {}
    for stage in stages:
        by_variants.setdefault(stage.variants, []).append(stage)
    chosen = {stage.directory_name for stage in stages}
    firsts = Counter(own[0].name for variants, own in by_variants.items() if len(variants) > 1)
    jobs = []
    for variants, own in by_variants.items():
        inside = {stage.directory_name for stage in own}
        inputs = {used.directory_name for stage in own for used in stage.inputs.values()}
        name = variants[0]
        if len(variants) > 1:
            name = own[0].name if firsts[own[0].name] == 1 else f"{own[0].name} of {variants[0]}"
        jobs.append(Job(name=name, stages=own, needs=frozenset((inputs & chosen) - inside)))
    return jobs


def assigned_stages(plan: Plan, value: str | None) -> frozenset[str] | None:
    """Folders' names of the stages that a process was started for; None when it was not started as a job.

    Args:
        plan: of the run.
        value: the value of ``DFZ_JOB``; None where it is not set.

    Raises:
        SpecError: the spec has changed since.
    """
    if value is None:
        return None
    names = frozenset(value.split())
    if names - {stage.directory_name for stage in plan.order}:
        raise SpecError("the spec was changed while its jobs were being started; start the run again")
    return names
