"""The train stage: builds the task, resumes, trains, and writes the model that later stages load."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from diffusability.core.build import BuildContext
from diffusability.core.dataset import Dataset
from diffusability.core.engine.checkpoints import Checkpoints
from diffusability.core.engine.deepspeed_engine import initialize
from diffusability.core.engine.ema import ExponentialMovingAverage
from diffusability.core.engine.metrics_log import MetricsLog, RunningMeans
from diffusability.core.engine.task import TrainTask
from diffusability.core.engine.training_loop import TrainingLoop
from diffusability.core.progress import StageProgress
from diffusability.core.seeds import derived_seed
from diffusability.core.specs.plan import PlannedStage
from diffusability.core.specs.stages import TrainStage
from diffusability.core.stages.previews import Previews
from diffusability.core.stages.surroundings import Surroundings, autocast_dtype
from diffusability.core.stages.unreadable import UnreadableFiles


def build_task(stage: PlannedStage, context: BuildContext, dataset: Dataset) -> TrainTask:
    """The objective and the regularizers of a training stage, initialised from the stage's seed."""
    spec = stage.spec
    assert isinstance(spec, TrainStage)
    torch.manual_seed(derived_seed(stage.seed, "initialisation"))
    objective = spec.objective.build(context)
    if dataset.normalizer is not None:
        objective.use_normalizer(dataset.normalizer)
    regularizers = {regularizer.kind: regularizer.build(context) for regularizer in spec.regularizers}
    return TrainTask(objective, regularizers, spec.regularizers, autocast_dtype(stage.engine.precision))


def data_context(stage: PlannedStage, around: Surroundings) -> tuple[Dataset, BuildContext]:
    """The training data, and a build context that knows its shape and classes."""
    context = around.context(stage)
    dataset = stage.data.build(context, "train")
    shape = tuple(dataset[0].data.shape) if stage.data.holds == "latents" else context.latent_shape
    return dataset, attrs.evolve(context, latent_shape=shape, num_classes=dataset.num_classes)


def run_train(stage: PlannedStage, around: Surroundings, directory: Path) -> None:
    """Trains until the last step and writes ``model/``; continues from the newest whole checkpoint.

    Raises:
        TrainingError: a loss is not finite.
        StoppedOnRequest: a signal asked for it; a checkpoint was written.
    """
    spec = stage.spec
    assert isinstance(spec, TrainStage)
    dataset, context = data_context(stage, around)
    task = build_task(stage, context, dataset)
    engine = initialize(task, spec, stage.engine, around.ranks)
    ema = ExponentialMovingAverage(task, spec.ema.half_life_steps) if spec.ema is not None else None
    checkpoints = Checkpoints(directory / "checkpoints", around.ranks, spec.checkpoint.keep)
    log = MetricsLog(directory / "metrics.jsonl")
    first_step, means = _restore(stage, around, engine, checkpoints, ema)
    if around.ranks.is_main:
        log.cut_after(first_step)
    unreadable = UnreadableFiles(directory, dataset, around.console)
    previews = Previews(stage=stage, around=around, task=task, dataset=dataset, ema=ema, log=log, directory=directory)
    trackers = [tracker.build(context) for tracker in spec.trackers] if around.ranks.is_main else []
    for tracker in trackers:
        tracker.start(stage.name, directory, stage.resolved())

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
        ranks=around.ranks,
        ema=ema,
        checkpoints=checkpoints,
        log=log,
        trackers=trackers,
        stop=around.stop,
        on_unreadable=on_unreadable,
        hooks=[previews],
        means=means,
    )
    try:
        with StageProgress(around.console, stage.name, spec.steps, first_step) as progress:
            loop.run(first_step, progress)
        _save_model(task, ema, directory / "model", around)
    finally:
        for tracker in trackers:
            tracker.finish()
        engine.destroy()


def _restore(
    stage: PlannedStage,
    around: Surroundings,
    engine: Any,
    checkpoints: Checkpoints,
    ema: ExponentialMovingAverage | None,
) -> tuple[int, RunningMeans]:
    """The step to go on from and the running means that the log had then."""
    restored, skipped = checkpoints.restore(engine)
    for sentence in skipped:
        around.console.print(f"[yellow]{sentence}[/yellow]", highlight=False)
    if restored is None:
        return 0, RunningMeans()
    if ema is not None and restored.averages is not None:
        ema.load_state_dict(restored.averages)
    around.console.print(f"  {stage.name}: resumes after step {restored.step}", highlight=False)
    state: Mapping[str, tuple[float, int]] = restored.state["means"]
    return restored.step, RunningMeans(state)


def _save_model(task: TrainTask, ema: ExponentialMovingAverage | None, directory: Path, around: Surroundings) -> None:
    """Writes the averaged weights where there are any, so that the folder appears whole or not at all."""
    if around.ranks.is_main:
        partial = directory.with_name(".model-writing")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        if ema is None:
            task.objective.save(partial)
        else:
            with ema.applied(task):
                task.objective.save(partial)
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(partial, directory)
    around.ranks.barrier()
