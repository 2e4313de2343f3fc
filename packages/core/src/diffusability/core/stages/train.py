"""The train stage: builds the task, resumes, trains, and writes the model that later stages load."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs

from diffusability.core.contracts.dataset import Dataset
from diffusability.core.engine.averages.average_snapshots import FOLDER, SnapshotWriter
from diffusability.core.engine.averages.ema import PowerFunctionAverage, WeightAverage, weight_averages
from diffusability.core.engine.batches import example_index
from diffusability.core.engine.checkpoints.checkpoints import CheckpointPart, Checkpoints, Layout, Restored
from diffusability.core.engine.deepspeed_engine import initialize
from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.metrics_log import MetricsLog, RunningMeans
from diffusability.core.engine.numerical_guard import NumericalGuard
from diffusability.core.engine.step_trace import StepTrace
from diffusability.core.engine.training_loop import TrainingLoop
from diffusability.core.engine.update_gate import UpdateGate
from diffusability.core.errors import TrainingError
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.run.progress import StageProgress
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.stages import TrainStage
from diffusability.core.stages.adversary_of_stage import build_adversary
from diffusability.core.stages.decoder_reference import name_decoder
from diffusability.core.stages.in_training.inference_copy import InferenceCopy
from diffusability.core.stages.in_training.previews import Previews, refuse_guidance_without_classes
from diffusability.core.stages.runtime import StageRuntime
from diffusability.core.stages.task_of_stage import build_task
from diffusability.core.stages.unreadable import UnreadableFiles
from diffusability.core.writing import replacing_folder


def data_context(stage: PlannedStage, runtime: StageRuntime) -> tuple[Dataset, BuildContext]:
    """The training data, and a build context that knows its shape and classes."""
    context = runtime.context(stage)
    dataset = runtime.opened(stage, "train")
    shape = tuple(dataset[0].data.shape) if stage.data.holds == "latents" else context.latent_shape
    return dataset, attrs.evolve(context, latent_shape=shape, num_classes=dataset.num_classes)


def run_train(stage: PlannedStage, runtime: StageRuntime, directory: Path) -> Mapping[str, int]:
    """Trains until the last step and writes ``model/``; continues from the newest whole checkpoint.

    Returns how many steps were skipped, as ``num_skipped``.

    Raises:
        SpecError: a sampler guides by classes, and there are none.
        TrainingError: losses or gradients of too many steps in a row were not finite, or those of all steps.
        StoppedOnRequest: a signal asked for it; a checkpoint was written.
    """
    spec = stage.spec
    assert isinstance(spec, TrainStage)
    dataset, context = data_context(stage, runtime)
    task = build_task(stage, context, dataset, runtime.ranks.device.type)
    refuse_guidance_without_classes(spec, task.objective)
    checkpoints = Checkpoints(directory / "checkpoints", runtime.ranks, spec.checkpoint.keep)
    newest, skipped = checkpoints.newest()
    for sentence in skipped:
        runtime.console.print(f"[yellow]{sentence}[/yellow]", highlight=False)
    adversary = build_adversary(stage, task, dataset, runtime.ranks)
    engine = initialize(task, spec, stage.engine, runtime.ranks)
    warn = partial(_warn, stage, runtime)
    for sentence in spec.ema.warnings(spec.steps) if spec.ema is not None else ():
        warn(sentence)
    averages = weight_averages(spec.ema, task, runtime.ranks)
    parts: dict[str, CheckpointPart] = {average.label: average for average in averages}
    if adversary is not None:
        parts["discriminator"] = adversary
    snapshots = _snapshots(spec, averages, directory, runtime.ranks)
    guard = NumericalGuard(
        folder=directory / "nonfinite",
        ranks=runtime.ranks,
        gate=UpdateGate(device=runtime.ranks.device, max_skipped=spec.max_skipped),
        on_first=warn,
        example_at=partial(example_index, dataset, stage.seed, spec.batch_size),
    )
    trackers = [tracker.build(context) for tracker in spec.trackers] if runtime.ranks.is_main else []
    log = MetricsLog(directory / "metrics.jsonl", trackers)
    first_step, means = 0, RunningMeans()
    if newest is not None:
        restored = checkpoints.restore(engine, newest, parts)
        guard.load(restored.state["guard"])
        first_step, means = _resume(stage, runtime, restored, checkpoints.written_by(newest))
    if runtime.ranks.is_main:
        log.cut_after(first_step)
        for snapshot in snapshots:
            snapshot.forget_after(first_step)
    unreadable = UnreadableFiles(directory, dataset, runtime.console)
    shown = InferenceCopy(
        stage=stage, context=context, dataset=dataset, task=task, averages=averages, ranks=runtime.ranks
    )
    previews = Previews(stage=stage, runtime=runtime, shown=shown, dataset=dataset, log=log, directory=directory)
    for tracker in trackers:
        tracker.start(stage.name, directory, stage.resolved())
    trace = StepTrace(directory / "profile", runtime.ranks.rank, runtime.profile_steps)

    def on_unreadable(reports: Sequence[str]) -> int:
        unreadable.report(reports)
        return len(unreadable)

    loop = TrainingLoop(
        engine=engine,
        spec=spec,
        engine_spec=stage.engine,
        seed=stage.seed,
        dataset=dataset,
        num_workers=stage.data.num_workers,
        ranks=runtime.ranks,
        averages=averages,
        guard=guard,
        adversary=adversary,
        checkpoints=checkpoints,
        parts=parts,
        log=log,
        stop=runtime.stop,
        on_unreadable=on_unreadable,
        hooks=[trace, *snapshots, previews],
        means=means,
    )
    try:
        with trace, StageProgress(runtime.console, stage.name, spec.steps, first_step) as progress:
            loop.run(first_step, progress)
        _account_for_skipped(guard.num_skipped, stage, runtime, checkpoints)
        _save_model(shown, directory / "model", runtime)
        for average in averages[1:]:
            _save_model(shown, directory / f"model-{average.label}", runtime, average)
    finally:
        for tracker in trackers:
            tracker.finish()
        engine.destroy()
        if adversary is not None:
            adversary.engine.destroy()
    return {"num_skipped": guard.num_skipped}


def _warn(stage: PlannedStage, runtime: StageRuntime, sentence: str) -> None:
    runtime.console.print(f"  {stage.name}: {sentence}", style="yellow", markup=False, highlight=False)


def _account_for_skipped(
    num_skipped: int, stage: PlannedStage, runtime: StageRuntime, checkpoints: Checkpoints
) -> None:
    """Says how many steps were skipped; raises TrainingError when all were."""
    assert isinstance(stage.spec, TrainStage)
    steps = stage.spec.steps
    if num_skipped >= steps:
        checkpoints.remove()
        raise TrainingError(
            f"none of the {steps} steps of stage {stage.name!r} changed the weights: the loss or gradient of each was"
            " not finite; its checkpoints were removed, and the same command starts it again"
        )
    if num_skipped:
        runtime.remark(stage, f"{num_skipped} of {steps} steps were skipped: a loss or gradient was not finite")


def _snapshots(
    spec: TrainStage, averages: Sequence[WeightAverage], directory: Path, ranks: Ranks
) -> list[SnapshotWriter]:
    if spec.ema is None or spec.ema.power_function is None:
        return []
    writer = SnapshotWriter(
        folder=directory / FOLDER,
        averages=[average for average in averages if isinstance(average, PowerFunctionAverage)],
        ranks=ranks,
        every=spec.ema.power_function.snapshot_every,
        last_step=spec.steps,
        dtype=spec.ema.power_function.snapshot_dtype,
    )
    return [writer]


def _resume(stage: PlannedStage, runtime: StageRuntime, restored: Restored, wrote: Layout) -> tuple[int, RunningMeans]:
    """The step to resume from and the running means that the log had then."""
    now = Layout(num_ranks=runtime.ranks.size, zero_stage=stage.engine.zero_stage)
    how = "" if wrote == now else f", written by {wrote}, converted for {now}"
    runtime.console.print(f"  {stage.name}: resumes after step {restored.step}{how}", highlight=False)
    state: Mapping[str, tuple[float, int]] = restored.state["means"]
    return restored.step, RunningMeans(state)


def _save_model(
    shown: InferenceCopy, directory: Path, runtime: StageRuntime, average: WeightAverage | None = None
) -> None:
    """Writes the averaged weights where there are any, so that the folder appears whole or not at all."""
    objective = shown.refreshed(average)
    if objective is not None:
        with replacing_folder(directory) as working:
            objective.save(working)
            name_decoder(working, directory, shown.stage, runtime)
    runtime.ranks.barrier()
