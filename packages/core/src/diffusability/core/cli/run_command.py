"""``dfz run``."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import yaml
from rich.console import Console

from diffusability.core.engine.launched import launched_rank
from diffusability.core.specs.check import check
from diffusability.core.specs.extends import KEY
from diffusability.core.specs.plan import Plan, load_plan, select
from diffusability.core.specs.source import read_source


def whole_text(spec: Path, plan: Plan) -> str:
    """The file as it was written; if it extends another, both in one, so that a run's folder needs no other file."""
    text = spec.read_text(encoding="utf-8")
    if KEY not in read_source(spec).data:
        return text
    return yaml.safe_dump(plan.source.data, sort_keys=False, allow_unicode=True)


def run_spec(
    spec: Path,
    variants: Sequence[str],
    until: str | None,
    overrides: Sequence[str],
    num_ranks: int,
    runs: Path,
    profile_steps: int = 0,
) -> None:
    """Validates, then runs here, or on ``num_ranks`` local processes that it starts."""
    launched = launched_rank()
    if launched is not None:  # before anything that can fail, so that a mistake is reported by one rank
        from diffusability.core.engine import distributed

        distributed.start()
    plan = load_plan(spec, overrides)
    stages = select(plan, variants, until)
    check(plan, num_ranks if launched is None else launched.size, stages)
    if launched is None and num_ranks > 1:
        from diffusability.core.cli.launch import launch

        launch(num_ranks)
        return
    from diffusability.core.freed_memory import keep_freed_memory
    from diffusability.core.stages.run_folder import RunFolder

    keep_freed_memory()
    folder = RunFolder(runs / plan.name)
    is_main = launched is None or launched.rank == 0
    with folder.locked() if is_main else nullcontext():
        from diffusability.core.stages.runner import run

        if is_main:
            (folder.root / "spec.yaml").write_text(whole_text(spec, plan), encoding="utf-8")
        command = shlex.join(["dfz", *sys.argv[1:]])
        run(plan, stages, folder, Console(soft_wrap=True), command, profile_steps)
