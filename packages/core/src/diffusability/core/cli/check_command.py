"""``dfz check``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from diffusability.core.cli.cost_table import Assumptions, print_costs
from diffusability.core.cli.plan_table import plan_table
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import Plan, PlannedStage, load_plan, select
from diffusability.core.planning.sample_counts import shortfalls
from diffusability.core.planning.source import as_yaml
from diffusability.core.planning.stage_context import context_of
from diffusability.core.run.changed_files import changes
from diffusability.core.run.earlier_stages import adoptable, earlier_stage
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.specs.base import PluginSpec
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.specs.python import code_files
from diffusability.core.specs.stages import TrainStage


def check_spec(
    spec: Path,
    variants: Sequence[str],
    until: str | None,
    overrides: Sequence[str],
    num_ranks: int,
    runs: Path,
    files: bool = True,
    assumed: Assumptions | None = None,
) -> None:
    """Validates a spec and prints its plan; with assumptions about the device, what it costs."""
    plan = load_plan(spec, overrides, variants)
    stages = select(plan, variants, until)
    check(plan, num_ranks, stages if files else ())
    folder = RunFolder(runs / plan.name)
    console = Console()
    changed = changes(stages, folder) if files else {}
    for name, reason in changed.items():
        console.print(f"{name} is to be done again: {reason}", style="yellow", markup=False, soft_wrap=True)

    planned = {stage.directory_name for stage in plan.order}
    adopted = [
        stage.digest for stage, path in adoptable(stages, folder, planned).values() if (path / "done.json").is_file()
    ]

    def is_done(stage: PlannedStage) -> bool:
        return stage.digest in adopted or (folder.is_done(stage) and stage.directory_name not in changed)

    names = plan.named(variants)
    title = f"{plan.name}: {len(stages)} stages for {_count(plan, names)} on {num_ranks} rank(s)"
    if assumed is not None:
        print_costs(console, title, stages, names, assumed, [stage for stage in stages if is_done(stage)])
        return
    console.print(plan_table(title, stages, names, num_ranks, is_done))
    for stage in stages:
        earlier = None if is_done(stage) else earlier_stage(stage, folder, planned)
        if earlier is not None:
            line = f"{stage.name} ({', '.join(stage.variants)}): {earlier}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    for stage in stages:
        if isinstance(stage.spec, TrainStage) and stage.spec.ema is not None:
            for sentence in stage.spec.ema.warnings(stage.spec.steps):
                console.print(f"stages.{stage.name}: {sentence}", style="yellow", markup=False, highlight=False)
    for file, names in code_of(stages).items():
        message = f"code that runs: {file} ({', '.join(names)})"
        console.print(message, markup=False, highlight=False, soft_wrap=True)
    for sentence in dict.fromkeys(f"{stage.name}: {remark}" for stage in stages for remark in remarks_on(stage)):
        console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(
        "Size: of training, weights, gradients, optimizer and moving averages per rank, without activations; of"
        " encoding, the latents on disk at most. --cost estimates GPU-hours and memory.",
        style="dim",
    )


def code_of(stages: Sequence[PlannedStage]) -> dict[Path, list[str]]:
    """Files named in the spec whose code will run, and the stages that run it."""
    stages_by_file: dict[Path, list[str]] = {}
    for stage in stages:
        parts = [stage.spec, stage.data]
        for file in dict.fromkeys(file for part in parts for file in code_files(part)):
            stages_by_file.setdefault(file, []).append(stage.name)
    return {file: list(dict.fromkeys(names)) for file, names in stages_by_file.items()}


def remarks_on(stage: PlannedStage) -> list[str]:
    """What a reader of a stage's numbers will have to know, as far as it is known before."""
    spec: AutoencoderSpec | None = getattr(stage.spec, "autoencoder", None)
    random = spec.random_weights() if spec is not None else ""
    untrained = [] if spec is None or not random else [f"autoencoder {spec.kind!r} is untrained: {random} are random"]
    context = context_of(stage)
    parts = [part for _, part in stage.spec.walk() if isinstance(part, PluginSpec)]
    return untrained + [sentence for part in parts for sentence in part.remarks(context)] + shortfalls(stage)


def print_resolved(spec: Path, variants: Sequence[str], overrides: Sequence[str], files: bool = True) -> None:
    """Validates a spec and prints each variant whole: what it extends, its changes and all defaults filled in."""
    plan = load_plan(spec, overrides, variants)
    check(plan, files=select(plan, variants) if files else ())
    documents = []
    for variant in plan.named(variants):
        text = as_yaml(plan.specs[variant].model_dump(mode="json"))
        documents.append(f"# variant {variant} of {spec.name}\n{text}")
    sys.stdout.write("---\n".join(documents))


def _count(plan: Plan, names: Sequence[str]) -> str:
    num_bases = len({plan.variants[name].base for name in names})
    seeds = f", {len(names)} with their seeds," if len(names) > num_bases else ""
    return f"{num_bases} variant{'' if num_bases == 1 else 's'}{seeds}"
