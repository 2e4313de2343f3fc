"""``dfz run``."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.console import Console

from diffusability.core.cli.launch import launch, say_waiting
from diffusability.core.engine.launched import launched_rank
from diffusability.core.errors import SpecError
from diffusability.core.extras import require_extra
from diffusability.core.planning.check import check
from diffusability.core.planning.extends import KEY
from diffusability.core.planning.job_division import VARIABLE, assigned_stages
from diffusability.core.planning.overrides import with_overrides
from diffusability.core.planning.plan import Plan, load_plan, select
from diffusability.core.planning.source import as_yaml, read_source
from diffusability.core.run.waiting_threads import let_threads_sleep

if TYPE_CHECKING:
    from diffusability.core.run.folder_writer import RunFolder


def keep_spec(spec: Path, plan: Plan, folder: "RunFolder") -> None:
    """Writes the spec into the folder of its run, with what the command line changed of it."""
    (folder.root / "spec.yaml").write_text(whole_text(spec, plan, folder.overrides_of(plan)), encoding="utf-8")


def whole_text(spec: Path, plan: Plan, overrides: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """The file as it was written; if it extends another, both in one, so that a run's folder needs no other file.

    Changes of the command line, by planned variant, are written into the variants, and named at the top.
    """
    text = spec.read_text(encoding="utf-8")
    if overrides:
        by_base = {plan.variants[name].base: changes for name, changes in overrides.items()}
        lines = [
            f"# {name}: {shlex.join(['--set', change])}" for name, changes in overrides.items() for change in changes
        ]
        data = with_overrides(plan.source, by_base)
        heading = "# Changed on the command line; the changes are part of the variants below."
        return "\n".join([heading, *lines, as_yaml(data)])
    if KEY not in read_source(spec).data:
        return text
    return as_yaml(plan.source.data)


def say_what_changes(console: Console, plan: Plan, folder: "RunFolder") -> None:
    """Names the changes of the command line, and the variants that keep the results of another spec."""
    kept = folder.kept_variants(plan)
    for name, changes in folder.overrides_of(plan).items():
        if name not in kept:
            message = f"{name}: {shlex.join([word for change in changes for word in ('--set', change)])}"
            console.print(message, markup=False, highlight=False)
    for name in kept:
        message = f"{name}: kept as it was run before, from a spec that differs from this one"
        console.print(message, style="yellow", markup=False, highlight=False)


def run_spec(
    spec: Path,
    variants: Sequence[str],
    until: str | None,
    overrides: Sequence[str],
    num_ranks: int,
    runs: Path,
    profile_steps: int = 0,
    num_jobs: int = 1,
    keep_going: bool = False,
    shows_results: bool = True,
) -> None:
    """Validates, then runs here, or on ``num_ranks`` local processes, or as ``num_jobs`` jobs at a time.

    With ``keep_going``, variants also run as jobs: a process that has failed cannot run the next variant.

    Raises:
        SpecError: the spec or the command line is wrong.
    """
    require_extra("report", "a run's report")
    launched = launched_rank()
    if launched is not None:  # before anything that can fail, so that a mistake is reported by one rank
        from diffusability.core.engine import distributed

        distributed.start()
    plan = load_plan(spec, overrides, variants)
    stages = select(plan, variants, until)
    job = assigned_stages(plan, os.environ.get(VARIABLE))
    starts_jobs = job is None and (num_jobs > 1 or keep_going)
    if job is not None:
        from diffusability.core.cli.job_processes import stop_with_parent

        stop_with_parent()
    else:
        if starts_jobs and launched is not None:
            option = "--keep-going" if num_jobs == 1 else f"--jobs {num_jobs}"
            raise SpecError(f"{option} starts processes of its own, so {launched.launcher} cannot start it")
        check(plan, num_ranks if launched is None else launched.size, stages)
    num_workers = max((stage.data.num_workers for stage in stages), default=0)
    if launched is None and num_ranks > 1 and not starts_jobs:
        launch(num_ranks, num_workers)
        return
    if launched is None and job is None:
        say_waiting(let_threads_sleep(num_jobs if starts_jobs else 1, num_ranks, num_workers=num_workers))
    from diffusability.core.run.folder_writer import RunFolder
    from diffusability.core.run.freed_memory import keep_freed_memory

    folder = RunFolder(runs / plan.name)
    command = shlex.join(["dfz", *sys.argv[1:]])
    console = Console(soft_wrap=True)
    if starts_jobs:
        from diffusability.core.cli.job_processes import JobProcesses
        from diffusability.core.run.changed_files import set_aside_changed
        from diffusability.core.run.earlier_stages import adopt
        from diffusability.core.stages.overview import Overview

        processes = JobProcesses(
            Overview(plan=plan, folder=folder, command=command), num_jobs, num_ranks, console, keep_going
        )
        with folder.locked() as lock:
            say_what_changes(console, plan, folder)
            keep_spec(spec, plan, folder)
            adopt(stages, folder, {stage.directory_name for stage in plan.order})
            set_aside_changed(stages, folder, console)
            processes.run(stages, lock)
        return
    keep_freed_memory()
    writes = job is None and (launched is None or launched.rank == 0)
    with folder.locked() if writes else nullcontext():
        from diffusability.core.stages.runner import run

        if writes:
            say_what_changes(console, plan, folder)
            keep_spec(spec, plan, folder)
        run(plan, stages, folder, console, command, profile_steps, job, shows_results)
