"""The loop: batches in, optimizer steps, metrics, checkpoints."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch

from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.adversarial.adversary import Adversary
from diffusability.core.engine.averages.ema import WeightAverage, update_all
from diffusability.core.engine.batches import BatchPlan, LoadedBatch, batches, moved
from diffusability.core.engine.checkpoints.checkpoints import CheckpointPart, Checkpoints
from diffusability.core.engine.deepspeed_engine import clip_gradients, micro_batch_size, sharded_gradient_norm
from diffusability.core.engine.distributed import Ranks, RanksVote
from diffusability.core.engine.metrics_log import MetricsLog, Observed, RunningMeans
from diffusability.core.engine.numerical_guard import NumericalGuard
from diffusability.core.engine.resources import gradient_norms, peak_memory_bytes
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.engine.task import TaskOutput
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.run.progress import StageProgress
from diffusability.core.specs.engine import EngineSpec
from diffusability.core.specs.stages import TrainStage
from diffusability.core.specs.training import LearningRateSpec


def learning_rate_factor(spec: LearningRateSpec, step: int, total_steps: int) -> float:
    """Multiplier of the peak learning rate at an optimizer step (from 0), in [0, 1].

    Warm-up is linear and reaches 1 at step ``warmup_steps - 1``; the decay reaches ``final_share`` at the last step.
    """
    if step < spec.warmup_steps:
        return (step + 1) / spec.warmup_steps
    if spec.decay == "none":
        return 1.0
    progress = (step + 1 - spec.warmup_steps) / max(1, total_steps - spec.warmup_steps)
    remaining = 1 - progress if spec.decay == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return spec.final_share + (1 - spec.final_share) * remaining


#: Called with the number of finished steps.
StepHook = Callable[[int], None]


@attrs.define(kw_only=True, eq=False)
class TrainingLoop:
    """Trains a DeepSpeed engine for the steps of a stage.

    Attributes:
        engine: the DeepSpeed engine around a TrainTask.
        spec: the stage.
        engine_spec: precision and sharding.
        seed: seed of the stage.
        dataset: what to train on.
        num_workers: loading processes.
        ranks: this process among the others.
        averages: averages of the weights, if any are kept.
        guard: keeps out what is not finite.
        adversary: the discriminator in training beside the task, if there is one.
        checkpoints: where to save.
        parts: what a checkpoint keeps beside the engine, by name.
        log: the metrics file, and the trackers.
        stop: whether the run was asked to stop.
        on_unreadable: told of files that could not be read; returns how many there are by now.
        hooks: called after every step.
    """

    engine: Any
    spec: TrainStage
    engine_spec: EngineSpec
    seed: int
    dataset: Dataset
    num_workers: int
    ranks: Ranks
    averages: Sequence[WeightAverage]
    guard: NumericalGuard
    adversary: Adversary | None
    checkpoints: Checkpoints
    parts: Mapping[str, CheckpointPart]
    log: MetricsLog
    stop: StopRequest
    on_unreadable: Callable[[Sequence[str]], int]
    hooks: Sequence[StepHook] = ()
    means: RunningMeans = attrs.field(factory=RunningMeans)
    _data_wait_s: float = 0.0
    _busy_s: float = 0.0
    _timed_steps: int = 0
    _num_unreadable: int = 0
    _gradient_norms: dict[str, float] = attrs.field(factory=dict)
    _stop_vote: RanksVote = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._stop_vote = RanksVote(self.ranks)

    def run(self, first_step: int, progress: StageProgress) -> None:
        """Trains from ``first_step`` to the last step of the stage.

        Raises:
            TrainingError: losses or gradients of too many steps in a row were not finite.
            StoppedOnRequest: after a checkpoint was written.
        """
        iterator = self._batches(first_step)
        self.engine.module.train()
        try:
            for step in range(first_step, self.spec.steps):
                started = time.perf_counter()
                self._step(step, iterator)
                self._busy_s += time.perf_counter() - started
                self._timed_steps += 1
                self._after(step + 1, progress)
                if step == first_step:
                    gc.collect()
                    gc.freeze()  # what lives now is not scanned for cycles again and again
        finally:
            gc.unfreeze()

    def _batches(self, first_step: int) -> Iterator[LoadedBatch]:
        plan = BatchPlan(
            seed=self.seed,
            batch_size=self.spec.batch_size,
            micro_batch_size=micro_batch_size(self.spec, self.engine_spec, self.ranks.size),
            rank=self.ranks.rank,
            num_ranks=self.ranks.size,
        )
        on_gpu = self.ranks.device.type == "cuda"
        return iter(batches(self.dataset, plan, first_step, self.spec.steps, self.num_workers, pin_memory=on_gpu))

    def _step(self, step: int, iterator: Iterator[LoadedBatch]) -> None:
        """One optimizer step: all its micro batches, forward and backward, then the update."""
        factor = learning_rate_factor(self.spec.learning_rate, step, self.spec.steps)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = self.spec.optimizer.lr * factor
        norm = None
        observed: list[Observed] = []
        self.guard.begin(step)
        for accumulation in range(self.engine.gradient_accumulation_steps()):
            waited = time.perf_counter()
            loaded = next(iterator)
            self._data_wait_s += time.perf_counter() - waited
            if loaded.unreadable:
                self._num_unreadable = self.on_unreadable(loaded.unreadable)
            # For code that draws from torch's global generator: the same numbers when a step is repeated.
            global_seed = derived_seed(self.seed, "global", step, accumulation, self.ranks.rank)
            torch.manual_seed(global_seed)
            observed += self._backward(step, loaded.batch, global_seed)
            if self._logs_gradient_norms(step + 1) and self.engine.is_gradient_accumulation_boundary():
                self._gradient_norms = gradient_norms(self.engine)
            norm = clip_gradients(self.engine, self.spec.gradient_clip)
            self.guard.gate.before_update(self.engine, norm)
            self.engine.step()
            if self.adversary is not None:
                self.adversary.step(self.adversary.spec.optimizer.lr * factor)
        applied = self.guard.end(self.engine)
        whole_norm = norm if norm is not None else sharded_gradient_norm(self.engine)
        if whole_norm is not None:
            observed.append(
                Observed(("grad_norm",), torch.as_tensor(whole_norm, device=self.ranks.device).detach().reshape(1))
            )
        for numbers in observed:
            self.means.record(numbers, applied)
        update_all(self.averages, applied)

    def _backward(self, step: int, batch: Batch, global_seed: int) -> list[Observed]:
        """Forward and backward pass of a micro batch, the discriminator's too; the losses and monitors."""
        if self.adversary is not None:
            self.adversary.begin(step)
        output: TaskOutput = self.engine(moved(batch, self.ranks.device))
        if self.adversary is not None:
            output = self.adversary.judge(output, step)
        losses = {**output.terms, "loss": output.loss}
        observed = Observed.of_tensors({**losses, **output.monitors})
        self.engine.backward(self.guard.watched(output.loss, observed, len(losses), batch, global_seed))
        if self.adversary is None:
            return [observed]
        return [observed, *self.adversary.backward(observed.values[: len(losses)])]

    def _after(self, done: int, progress: StageProgress) -> None:
        """Everything that follows a step: the log, the hooks, the checkpoint, and stopping."""
        if self._is_logged(done):
            self._log(done, progress)
        else:
            progress.update(done)
        for hook in self.hooks:
            hook(done)
        stopping = self._stop_vote.any(bool(self.stop))
        if done % self.spec.checkpoint.every == 0 or done == self.spec.steps or stopping:
            self.save(done)
        if stopping:
            self.stop.signal_name = self.stop.signal_name or "a signal on another rank"
            self.stop.raise_if_requested(f"saved at step {done}")

    def _is_logged(self, done: int) -> bool:
        return done % self.spec.log_every == 0 or done == self.spec.steps

    def _logs_gradient_norms(self, done: int) -> bool:
        return self.spec.log_gradient_norms and self._is_logged(done)

    def save(self, done: int) -> None:
        """Writes a checkpoint after ``done`` steps."""
        self._settle()
        state = {"means": self.means.sums, "guard": self.guard.state()}
        self.checkpoints.save(self.engine, done, state, self.parts)

    def _settle(self) -> None:
        """Waits for the device, and takes in what it has found in the steps since the last time."""
        self.guard.settle(self.engine)
        if self.adversary is not None:
            self.adversary.settle()
        self.means.settle()

    def _log(self, done: int, progress: StageProgress) -> None:
        self._settle()
        parts = self.ranks.gathered((self.means, peak_memory_bytes(self.ranks.device)))
        means = RunningMeans.means(part for part, _ in parts)
        steps = max(1, self._timed_steps)
        busy = max(self._busy_s, 1e-9)
        metrics = {
            "step": done,
            "samples": done * self.spec.batch_size,
            **means,
            "lr": self.engine.optimizer.param_groups[0]["lr"],
            "samples_per_s": steps * self.spec.batch_size / busy,
            "step_time_s": busy / steps,
            "data_wait_s": self._data_wait_s / steps,
            "memory_bytes": max(memory for _, memory in parts),
            "num_skipped": self.guard.num_skipped,
            **self._gradient_norms,
        }
        if self._num_unreadable:
            metrics["num_unreadable"] = self._num_unreadable
        if self.ranks.is_main:
            self.log.write(metrics)
        loss = f"loss {means['loss']:.4g}" if "loss" in means else "no step since was finite"
        progress.update(done, f"{loss}  {metrics['samples_per_s']:.0f} samples/s")
        self.means.reset()
        self._busy_s, self._data_wait_s, self._timed_steps = 0.0, 0.0, 0
