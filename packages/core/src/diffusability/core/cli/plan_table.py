"""The table of a plan: one row for the stages of several variants that differ in no more than their numbers."""

from collections.abc import Callable, Mapping, Sequence

import attrs
from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from diffusability.core.planning.check import encoded_bytes_per_sample, estimate
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.specs.stages import EncodeStage, EvaluateStage, TrainStage

#: Kinds of evaluators, and characters of variants' names, that a row names before it counts the rest.
_MOST_KINDS = 3
_MOST_CHARACTERS = 20


@attrs.frozen(kw_only=True)
class StageGroup:
    """Stages of one name that do the same with other numbers.

    Attributes:
        name: their name.
        what: what they do: objective and regularizers, data, or evaluators.
        stages: the stages, in the order in which they run.
    """

    name: str
    what: str
    stages: Sequence[PlannedStage]

    @property
    def title(self) -> str:
        """Its name, and how many stages have it."""
        return self.name if len(self.stages) == 1 else f"{self.name} x{len(self.stages)}"

    def variants(self, all_variants: Sequence[str]) -> str:
        """The variants that have these stages: all, or their names as far as there is room, and how many more."""
        names = [name for name in all_variants if any(name in stage.variants for stage in self.stages)]
        if len(names) == len(all_variants) and len(names) > 2:
            return f"all {len(names)}"
        shown = 1
        while shown < len(names) and len(", ".join(names[: shown + 1])) <= _MOST_CHARACTERS:
            shown += 1
        return _listed(names, shown)


def groups(stages: Sequence[PlannedStage]) -> list[StageGroup]:
    """The stages by what they do; those of one name follow each other, names in the order in which they first run."""
    by_name: dict[str, dict[str, list[PlannedStage]]] = {}
    for stage in stages:
        by_name.setdefault(stage.name, {}).setdefault(_what(stage), []).append(stage)
    return [
        StageGroup(name=name, what=what, stages=members)
        for name, by_what in by_name.items()
        for what, members in by_what.items()
    ]


def plan_table(
    title: str,
    stages: Sequence[PlannedStage],
    variants: Sequence[str],
    num_ranks: int,
    is_done: Callable[[PlannedStage], bool],
) -> Table:
    """Stages with their sizes; where the members of a group differ, the smallest and the largest number."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("stage")
    for column in ("steps", "parameters", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for group in groups(stages):
        numbers = [numbers_of(stage, num_ranks) for stage in group.stages]
        table.add_row(
            group_label(group, variants),
            *(number_range([row[name] for row in numbers], show) for name, show in _SHOWN.items()),
            _status([is_done(stage) for stage in group.stages]),
        )
    return table


def group_label(group: StageGroup, variants: Sequence[str]) -> Group:
    """The name of a group and its variants, and below it what it does."""
    return Group(
        Text.assemble(group.title, (f" ({group.variants(variants)})" if len(variants) > 1 else "", "dim")),
        Padding(Text(group.what, "dim"), (0, 0, 0, 2)),
    )


def _what(stage: PlannedStage) -> str:
    match stage.spec:
        case TrainStage() as spec:
            return " + ".join([spec.objective.kind, *(regularizer.kind for regularizer in spec.regularizers)])
        case EncodeStage() as spec:
            return f"{stage.data.kind}, {spec.num_samples or 'all'} images"
        case EvaluateStage() as spec:
            return _listed([evaluator.kind for evaluator in spec.evaluators], _MOST_KINDS)
        case _:
            return stage.spec.kind


def _listed(names: Sequence[str], most: int) -> str:
    more = len(names) - most
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:most])}, +{more} more"


def numbers_of(stage: PlannedStage, num_ranks: int) -> Mapping[str, int | None]:
    """Steps, parameters and bytes of a stage: 0 where it has none, None where they are not known."""
    if isinstance(stage.spec, EncodeStage):
        each, count = encoded_bytes_per_sample(stage), stage.spec.num_samples
        return {"steps": 0, "parameters": 0, "size": each * count if each is not None and count is not None else None}
    if not isinstance(stage.spec, TrainStage):
        return dict.fromkeys(_SHOWN, 0)
    cost = estimate(stage, num_ranks)
    return {"steps": stage.spec.steps, "parameters": cost.num_parameters, "size": cost.state_bytes_per_rank}


def byte_count(count: float) -> str:
    """Bytes in KiB, MiB or GiB, such as ``80 MiB`` or ``11.2 GiB``."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:,.1f} {unit}" if count < 100 * size else f"{count / size:,.0f} {unit}"
    return f"{count / 2**10:,.0f} KiB"


_SHOWN: Mapping[str, Callable[[int], str]] = {
    "steps": lambda count: f"{count:,}",
    "parameters": lambda count: f"{count / 1e6:,.2f}M",
    "size": byte_count,
}


def number_range(values: Sequence[int | None], show: Callable[[int], str]) -> str:
    """Nothing for zeros; the smallest and the largest where they differ as shown, such as ``2.1-3.4 MiB``."""
    known = sorted(value for value in values if value is not None)
    if known and known[-1] == 0:
        return ""
    if not known:
        return "unknown"
    low, high = show(known[0]), show(known[-1])
    unit = high.lstrip("0123456789.,")
    shown = high if low == high else f"{low.removesuffix(unit)}-{high}"
    return shown if len(known) == len(values) else f"{shown}, unknown"


def _status(done: Sequence[bool]) -> str:
    if len(done) == 1:
        return "done" if done[0] else "to do"
    counts = {"done": sum(done), "to do": len(done) - sum(done)}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
