"""``dfz run``."""

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from diffusability.core.specs.check import check
from diffusability.core.specs.plan import load_plan, select


def started_rank() -> int | None:
    """This process's rank when a launcher started it, or None."""
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ and (name == "RANK" or int(os.environ.get("SLURM_NTASKS", "1")) > 1):
            return int(os.environ[name])
    return None


def started_size() -> int:
    """Number of ranks that a launcher started; 1 when there was none."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ.get("SLURM_NTASKS", "1")) if started_rank() is not None else 1


def run_spec(
    spec: Path, variants: Sequence[str], until: str | None, overrides: Sequence[str], num_ranks: int, runs: Path
) -> None:
    """Validates, then runs here, or on ``num_ranks`` local processes that it starts."""
    rank = started_rank()
    plan = load_plan(spec, overrides)
    stages = select(plan, variants, until)
    check(plan, num_ranks if rank is None else started_size())
    if rank is None and num_ranks > 1:
        from diffusability.core.cli.launch import launch

        launch(num_ranks)
        return
    from diffusability.core.stages.run_folder import RunFolder

    folder = RunFolder(runs / plan.name)
    with folder.locked() if rank in (None, 0) else nullcontext():
        from diffusability.core.stages.runner import run

        if rank in (None, 0):
            (folder.root / "spec.yaml").write_text(spec.read_text(encoding="utf-8"), encoding="utf-8")
        command = shlex.join(["dfz", *sys.argv[1:]])
        run(plan, stages, folder, Console(soft_wrap=True), command)
