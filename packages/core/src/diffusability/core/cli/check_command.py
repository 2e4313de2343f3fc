"""``dfz check``."""

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from diffusability.core.specs.check import check, encoded_bytes_per_sample, estimate
from diffusability.core.specs.plan import PlannedStage, load_plan, select
from diffusability.core.specs.stages import EncodeStage, EvaluateStage, TrainStage
from diffusability.core.stages.run_folder import RunFolder


def check_spec(
    spec: Path, variants: Sequence[str], until: str | None, overrides: Sequence[str], num_ranks: int, runs: Path
) -> None:
    """Validates a spec and prints its plan."""
    plan = load_plan(spec, overrides)
    stages = select(plan, variants, until)
    check(plan, num_ranks)
    folder = RunFolder(runs / plan.name)
    table = Table(title=f"{plan.name}: {len(stages)} stages for {len(plan.stages)} variants on {num_ranks} rank(s)")
    for column in ("stage", "variants", "what", "steps", "parameters", "state per rank", "status"):
        table.add_column(column, justify="right" if column in ("steps", "parameters", "state per rank") else "left")
    for stage in stages:
        table.add_row(*_row(stage, folder, num_ranks))
    console = Console()
    console.print(table)
    console.print(
        "State per rank: weights, gradients, optimizer and moving averages; activations come on top.", style="dim"
    )


def print_resolved(spec: Path, variants: Sequence[str], overrides: Sequence[str]) -> None:
    """Validates a spec and prints each variant whole: what it extends, its changes and all defaults filled in."""
    plan = load_plan(spec, overrides)
    select(plan, variants)
    check(plan)
    documents = []
    for variant in variants or plan.specs:
        text = yaml.safe_dump(plan.specs[variant].model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        documents.append(f"# variant {variant} of {spec.name}\n{text}")
    sys.stdout.write("---\n".join(documents))


def _row(stage: PlannedStage, folder: RunFolder, num_ranks: int) -> tuple[str, ...]:
    steps = parameters = memory = ""
    match stage.spec:
        case TrainStage() as spec:
            what = " + ".join([spec.objective.kind, *(regularizer.kind for regularizer in spec.regularizers)])
            steps = f"{spec.steps:,}"
            cost = estimate(stage, num_ranks)
            parameters = _count(cost.num_parameters)
            memory = "unknown" if cost.state_bytes_per_rank is None else f"{cost.state_bytes_per_rank / 2**20:,.0f} MiB"
        case EncodeStage() as spec:
            what = f"{stage.data.kind}, {spec.num_samples or 'all'} images{_cache_size(stage, spec)}"
        case EvaluateStage() as spec:
            what = ", ".join(evaluator.kind for evaluator in spec.evaluators)
        case _:
            what = stage.spec.kind
    status = "done" if folder.is_done(stage) else "to do"
    return (stage.name, ", ".join(stage.variants), what, steps, parameters, memory, status)


def _cache_size(stage: PlannedStage, spec: EncodeStage) -> str:
    each = encoded_bytes_per_sample(stage)
    if each is None:
        return ""
    total = f", {each * spec.num_samples / 2**30:.2f} GiB" if spec.num_samples is not None else ""
    return f", at most {each / 2**10:,.0f} KiB each{total}"


def _count(value: int | None) -> str:
    if value is None:
        return "unknown"
    return f"{value / 1e6:,.2f}M" if value >= 10_000 else str(value)
