"""The table of what a plan costs. Imports torch only when it is made."""

from collections.abc import Mapping, Sequence

import attrs
from rich import box
from rich.console import Console
from rich.table import Table

from diffusability.core.cli.plan_table import StageGroup, byte_count, group_label, groups, number_range, numbers_of
from diffusability.core.cost.amounts import Flops, StageCost
from diffusability.core.cost.devices import Device
from diffusability.core.planning.plan import PlannedStage

#: The cost is given for so many images where their number is not known.
_MANY = 1_000_000


@attrs.frozen(kw_only=True)
class Assumptions:
    """What hours are computed from: the device, the share of its peak rate, and the number of ranks."""

    device: Device
    utilisation: float
    num_ranks: int

    def hours(self, flops: Flops) -> float:
        """Hours on one device."""
        return flops.hours(self.device, self.utilisation)

    def __str__(self) -> str:
        return f"{self.device.label}, {self.utilisation:.0%} of peak"


def costs_of(stages: Sequence[PlannedStage], assumed: Assumptions) -> dict[str, StageCost]:
    """The cost of each stage, by its digest."""
    from diffusability.core.cost.stage_cost import CostEstimator

    estimator = CostEstimator(num_ranks=assumed.num_ranks, cuda=assumed.device.memory_bytes is not None)
    return {stage.digest: estimator.cost(stage) for stage in stages}


def two_digits(value: float) -> str:
    """A number to two significant digits, such as ``0.034``, ``1.2`` or ``1,200``; ``< 0.001`` below that."""
    if value < 0.001:
        return "< 0.001" if value else "0"
    rounded = float(f"{value:.1e}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2g}"


def print_costs(
    console: Console,
    title: str,
    stages: Sequence[PlannedStage],
    variants: Sequence[str],
    assumed: Assumptions,
    done: Sequence[PlannedStage],
) -> None:
    """Prints a row for each group of stages, warnings, what is left out, and the total."""
    with console.status("counting operations"):
        costs = costs_of(stages, assumed)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("stage")
    for column in ("steps", "parameters", "memory", assumed.device.unit):
        table.add_column(column, justify="right", no_wrap=True)
    for group in groups(stages):
        table.add_row(group_label(group, variants), *_cells(group, costs, assumed))
    console.print(table)
    total = _sum([costs[stage.digest] for stage in stages])
    partial = any(costs[stage.digest].flops is None or costs[stage.digest].notes for stage in stages)
    message = f"Total: {_signed(assumed.hours(total), partial)} {assumed.device.unit} ({assumed})"
    if done:
        finished = _sum([costs[stage.digest] for stage in done])
        message += f", of which {two_digits(assumed.hours(finished))} are done"
    console.print(message, style="bold", highlight=False)
    for warning in _too_large(stages, costs, assumed):
        console.print(warning, style="yellow", highlight=False)
    for note in _notes(stages, costs):
        console.print(note, style="dim", highlight=False)
    console.print(
        "Estimates: operations are counted on fake tensors, all stages together for a group. Memory: the"
        " most on a rank at a time, with activations, without what CUDA and NCCL keep and what fragmentation loses.",
        style="dim",
        highlight=False,
    )


def _cells(group: StageGroup, costs: Mapping[str, StageCost], assumed: Assumptions) -> tuple[str, str, str, str]:
    numbers = [numbers_of(stage, assumed.num_ranks) for stage in group.stages]
    group_costs = [costs[stage.digest] for stage in group.stages]
    parameters = [cost.num_parameters or row["parameters"] for cost, row in zip(group_costs, numbers, strict=True)]
    return (
        number_range([row["steps"] for row in numbers], lambda count: f"{count:,}"),
        number_range(parameters, lambda count: f"{count / 1e6:,.2f}M"),
        number_range([cost.memory_bytes for cost in group_costs], byte_count),
        _hours_cell(group_costs, assumed),
    )


def _hours_cell(costs: Sequence[StageCost], assumed: Assumptions) -> str:
    each = [cost.flops_per_sample for cost in costs if cost.flops_per_sample is not None]
    if each:
        return f"≈ {two_digits(assumed.hours(each[0] * _MANY))} per 1M images"
    if all(cost.flops is None for cost in costs):
        return "unknown"
    return _signed(assumed.hours(_sum(costs)), any(cost.notes for cost in costs))


def _signed(hours: float, is_lower_bound: bool) -> str:
    digits = two_digits(hours)
    return digits if digits.startswith("<") else f"{'≥' if is_lower_bound else '≈'} {digits}"


def _sum(costs: Sequence[StageCost]) -> Flops:
    total = Flops()
    for cost in costs:
        total = total + (cost.flops or Flops())
    return total


def _too_large(stages: Sequence[PlannedStage], costs: Mapping[str, StageCost], assumed: Assumptions) -> list[str]:
    there = assumed.device.memory_bytes
    largest: dict[str, int] = {}
    for stage in stages:
        largest[stage.name] = max(largest.get(stage.name, 0), costs[stage.digest].memory_bytes or 0)
    return [
        f"{name}: ≈ {byte_count(needed)} on a rank, and {assumed.device.label} has {byte_count(there)}; a smaller"
        " engine.micro_batch_size, engine.activation_checkpointing or a higher zero_stage needs less"
        for name, needed in largest.items()
        if there is not None and needed > there
    ]


def _notes(stages: Sequence[PlannedStage], costs: Mapping[str, StageCost]) -> list[str]:
    return list(dict.fromkeys(f"{stage.name}: {note}" for stage in stages for note in costs[stage.digest].notes))
