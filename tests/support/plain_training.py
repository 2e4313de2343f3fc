"""Training written out in plain torch, to hold the engine against: no DeepSpeed, one process, whole batches."""

import math
from pathlib import Path

import attrs
import torch
from rich.console import Console

from diffusability.core.engine import distributed
from diffusability.core.engine.batches import BatchPlan, batches
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.stages.runtime import StageRuntime
from diffusability.core.stages.train import build_task, data_context


def stage_runtime(folder):
    """The run of a folder, as a stage sees it; None where the stage looks nothing up there."""
    folder = folder or RunFolder(Path("no-such-run"))
    return StageRuntime(folder=folder, ranks=distributed.start(), console=Console(quiet=True), stop=StopRequest())


def task_of(stage, folder):
    """The task of a stage with its first weights, and its dataset."""
    dataset, context = data_context(stage, stage_runtime(folder))
    return build_task(stage, context, dataset), dataset


@attrs.define
class Trained:
    """What training leaves: the losses of each step, the weights after each, and the weights before the first."""

    task: torch.nn.Module
    losses: list
    trajectory: list


def rate_factor(spec, step):
    """Warm-up and cosine decay, written out."""
    warmup = spec.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    if spec.decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step + 1 - warmup) / (spec.total - warmup)))
    return 1.0


def train_plainly(stage, folder, skipped=(), steps=None):
    """AdamW with clipping and the schedule of the stage; steps in ``skipped`` leave everything as it is."""
    spec = stage.spec
    task, dataset = task_of(stage, folder)
    named = dict(task.named_parameters())
    optimizer = torch.optim.AdamW(
        task.parameters(),
        betas=spec.optimizer.betas,
        eps=spec.optimizer.eps,
        weight_decay=spec.optimizer.weight_decay,
    )
    plan = BatchPlan(seed=stage.seed, batch_size=spec.batch_size, micro_batch_size=spec.batch_size, rank=0, num_ranks=1)
    trained = Trained(task, [], [{name: value.detach().clone() for name, value in named.items()}])
    schedule = attrs.make_class("Schedule", ["warmup_steps", "decay", "total"])(
        spec.learning_rate.warmup_steps, spec.learning_rate.decay, spec.steps
    )
    for step, loaded in enumerate(batches(dataset, plan, 0, steps or spec.steps)):
        output = task(loaded.batch)
        trained.losses.append(output.loss.item())
        if step not in skipped:
            optimizer.param_groups[0]["lr"] = spec.optimizer.lr * rate_factor(schedule, step)
            optimizer.zero_grad()
            output.loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), spec.gradient_clip or math.inf)
            optimizer.step()
            trained.trajectory.append({name: value.detach().clone() for name, value in named.items()})
    return trained
