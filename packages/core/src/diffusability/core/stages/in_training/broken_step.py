"""A step on which training broke, made again from what the run has left: its spec, the weights and the batch."""

from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file

from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.nonfinite_batch import NonfiniteBatch, read_nonfinite_batch
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import CheckpointError
from diffusability.core.planning.plan import load_plan
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.stages.runtime import StageRuntime
from diffusability.core.stages.task_of_stage import build_task
from diffusability.core.stages.train import data_context


def load_broken_step(path: Path) -> tuple[TrainTask, NonfiniteBatch]:
    """The task of the stage, with the weights of that step, and the batch; ``batch.run(task)`` repeats the step.

    Everything is on the CPU, in one process. DeepSpeed takes no part.

    Args:
        path: ``runs/NAME/stages/STAGE-DIGEST/nonfinite/step-N-rank-R-micro-M.safetensors``.

    Raises:
        CheckpointError: the file cannot be read, or the spec of the run has no such stage any more.
        SpecError: the spec of the run cannot be read.
        DataError: the data of the stage cannot be opened.
    """
    broken = read_nonfinite_batch(path)
    folder = RunFolder(path.resolve().parents[3])
    plan = load_plan(folder.root / "spec.yaml")
    stage_folder = path.resolve().parents[1]
    stage = next((stage for stage in plan.order if folder.stage(stage) == stage_folder), None)
    if stage is None:
        raise CheckpointError(
            f"{str(path)!r} is of stage {stage_folder.name!r}, which {str(folder.root / 'spec.yaml')!r} does not plan: "
            "the spec of the run has been changed since"
        )
    ranks = Ranks(rank=0, size=1, device=torch.device("cpu"))
    runtime = StageRuntime(folder=folder, ranks=ranks, console=Console(quiet=True), stop=StopRequest())
    dataset, context = data_context(stage, runtime)
    task = build_task(stage, context, dataset)
    task.load_state_dict(load_file(broken.weights))
    return task, broken
