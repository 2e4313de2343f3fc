"""Runs a plan: every stage that is not done, in order, and the report at the end."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from diffusability.core.engine import distributed
from diffusability.core.engine.batches import naming_dead_workers
from diffusability.core.engine.deepspeed_engine import require_devices
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.errors import StoppedOnRequest
from diffusability.core.numerics.precision import multiplies_bf16, resolve_precision
from diffusability.core.planning.plan import Plan, PlannedStage
from diffusability.core.report.tables.results_table import print_results
from diffusability.core.run.changed_files import record_contents, set_aside_changed
from diffusability.core.run.earlier_stages import adopt, take_over
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.specs.stages import EncodeStage, EvaluateStage
from diffusability.core.stages.encode import run_encode
from diffusability.core.stages.evaluate import run_evaluate
from diffusability.core.stages.overview import Overview
from diffusability.core.stages.runtime import StageRuntime
from diffusability.core.stages.train import run_train

#: What runs a stage of each kind, and may return what it counted, for ``done.json``.
RUNNERS: dict[str, Callable[[PlannedStage, StageRuntime, Path], Mapping[str, int] | None]] = {
    "train": run_train,
    "encode": run_encode,
    "evaluate": run_evaluate,
}


def run(
    plan: Plan,
    stages: Sequence[PlannedStage],
    folder: RunFolder,
    console: Console,
    command: str,
    profile_steps: int = 0,
    job: Collection[str] | None = None,
    shows_results: bool = True,
) -> None:
    """Runs the stages that are not done yet, on the ranks that were started, and rebuilds the report.

    The caller holds the folder's lock. An error or a stop leaves everything that is finished in place, and the report
    of it.

    Args:
        plan: everything that the run consists of.
        stages: those to run, in order.
        folder: the run's folder.
        console: where to speak.
        command: how the run was started, for the report.
        profile_steps: steps of each training stage to trace; 0 for none.
        job: folders' names of the stages that are this process's; the others, and what is at the top of the run's
            folder, are then left to the process that started it. None: all of them are.
        shows_results: whether the results are printed at the end; what comes after is said by the caller otherwise.
    """
    mine = [stage for stage in stages if job is None or stage.directory_name in job]
    for stage in mine:
        require_devices(stage.engine)
    ranks = distributed.start()
    stop = StopRequest()
    runtime = StageRuntime(
        folder=folder,
        ranks=ranks,
        console=console if ranks.is_main else Console(quiet=True),
        stop=stop,
        profile_steps=profile_steps,
    )
    planned = {stage.directory_name for stage in plan.order}
    overview = Overview(plan=plan, folder=folder, command=command, writes=ranks.is_main and job is None)
    _warn_of_emulation(mine, runtime)
    stopped: StoppedOnRequest | None = None
    with stop.listening(), distributed.naming_lost_ranks(ranks), naming_dead_workers():
        try:
            if job is None:
                _set_aside_changed(stages, runtime, planned)
            for stage in mine:
                _run_stage(stage, runtime, overview, f"[{stages.index(stage) + 1}/{len(stages)}]", planned)
        except StoppedOnRequest as request:
            stopped = request
        except BaseException:
            try:
                overview.report()
            except OSError as error:  # must not take the place of what went wrong before
                console.print(f"the report could not be written either: {error}", style="yellow", markup=False)
            raise
        overview.report()
        ranks.barrier()  # a launcher ends the others when the first one ends: not while that one is still writing
    if stopped is not None:
        raise stopped
    if job is None and shows_results and ranks.is_main and not console.quiet:
        print_results(console, folder.root)
        runtime.console.print(f"report: {folder.root / 'report.html'}", highlight=False, soft_wrap=True)


def _warn_of_emulation(stages: Sequence[PlannedStage], runtime: StageRuntime) -> None:
    """Says so where bf16 was asked for by name, and this device is faster without."""
    asked = {stage.engine.precision for stage in stages} | {getattr(stage.spec, "precision", "") for stage in stages}
    emulated = sorted(asked & {"bf16", "bf16-weights"})
    device = runtime.ranks.device.type
    if emulated and not multiplies_bf16(device):
        runtime.console.print(
            f"precision {' and '.join(map(repr, emulated))}: this {device.upper()} has no instructions for bf16 and is"
            " several times faster in float32; precision 'auto' takes bf16 only where a device has them",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _set_aside_changed(stages: Sequence[PlannedStage], runtime: StageRuntime, planned: Collection[str]) -> None:
    """Looks on the first rank whether files have changed since the stages used them; a signal ends that at once."""
    if runtime.ranks.is_main:
        with runtime.stop.at_once():
            adopt(stages, runtime.folder, planned)
            set_aside_changed(stages, runtime.folder, runtime.console)
    runtime.stop.raise_together(runtime.ranks, "the files of the stages were being compared")


def _run_stage(
    stage: PlannedStage, runtime: StageRuntime, overview: Overview, number: str, planned: Collection[str]
) -> None:
    label = f"{number} {stage.name} ({', '.join(stage.variants)})"
    done = runtime.folder.is_done(stage)
    runtime.stop.raise_together(runtime.ranks, f"everything before stage {stage.name!r} is kept")
    if done:
        runtime.console.print(f"{label}: done before", markup=False, highlight=False)
        return
    runtime.console.print(label, markup=False, highlight=False, style="bold")
    directory = runtime.folder.stage(stage)
    if runtime.ranks.is_main:
        taken_over = take_over(stage, runtime.folder, planned)
        if taken_over:
            runtime.console.print(f"  {stage.name}: {taken_over}", markup=False, highlight=False, soft_wrap=True)
        runtime.folder.begin(stage)
        record_contents(stage, runtime.folder)
    runtime.ranks.barrier()
    overview.begin(stage)
    started = time.monotonic()
    try:
        facts = _run_or_stop_together(stage, runtime, directory)
    except BaseException as error:
        overview.end(stage, "stopped" if isinstance(error, StoppedOnRequest) else "failed")
        raise
    if runtime.ranks.is_main:
        precision = resolve_precision(_precision(stage), runtime.ranks.device.type)
        runtime.folder.finish(stage, time.monotonic() - started, runtime.ranks.size, precision, facts)
    overview.finish(stage)


def _precision(stage: PlannedStage) -> str:
    """What a stage computes in: an autoencoder that is not trained has a precision of its own."""
    match stage.spec:
        case EncodeStage(precision=own) | EvaluateStage(denoiser=None, precision=own):
            return own
        case _:
            return stage.engine.precision


def _run_or_stop_together(stage: PlannedStage, runtime: StageRuntime, directory: Path) -> Mapping[str, int] | None:
    """Runs a stage on all ranks; what it counted. What stops on one rank stops on all."""
    request: StoppedOnRequest | None = None
    facts: Mapping[str, int] | None = None
    try:
        facts = RUNNERS[stage.spec.kind](stage, runtime, directory)
    except StoppedOnRequest as error:
        request = error
    if runtime.ranks.any(request is not None):
        raise request or StoppedOnRequest("stopped with the first rank; the same command resumes")
    return facts
