"""Training stages on fixed random examples, and the engine's loop around them, for the benchmarks of the engine."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from diffusability.core.contracts.dataset import Dataset, Example
from diffusability.core.engine import distributed
from diffusability.core.engine.checkpoints.checkpoints import Checkpoints
from diffusability.core.engine.deepspeed_engine import initialize
from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.metrics_log import MetricsLog
from diffusability.core.engine.numerical_guard import NumericalGuard
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.engine.task import TrainTask
from diffusability.core.engine.training_loop import TrainingLoop
from diffusability.core.engine.update_gate import UpdateGate
from diffusability.core.run.progress import StageProgress
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.engine import EngineSpec
from diffusability.core.specs.stages import StageSpec, TrainStage
from diffusability.core.stages.runtime import autocast_dtype

#: Objective, shape of an example, and batch size, by name.
MODELS = {
    "compact-kl": ({"kind": "reconstruction", "autoencoder": {"kind": "compact-kl"}}, (3, 64, 64), 32),
    "dit-s": ({"kind": "flow-matching", "denoiser": {"kind": "dit", "size": "S/2"}}, (4, 32, 32), 8),
}


class Noise(Dataset):
    """Fixed random examples, so that loading costs next to nothing."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.data = torch.randn(64, *shape).clamp(-1, 1)

    def __len__(self) -> int:
        return len(self.data)

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        """One of them."""
        return Example(data=self.data[index])


class Nowhere(Checkpoints):
    """Saves nothing."""

    def save(self, *arguments: object, **named: object) -> None:
        """Does nothing."""


def build(name: str, steps: int, engine: EngineSpec, **changes: Any) -> tuple[TrainStage, TrainTask, tuple[int, ...]]:
    """A training stage, its task and the shape of its examples. ``changes`` are further fields of the stage."""
    objective, shape, batch_size = MODELS[name]
    fields = {"objective": objective, "steps": steps, "batch_size": batch_size, "log_every": 10**6}
    spec = StageSpec.model_validate({"kind": "train", **fields, **changes})
    assert isinstance(spec, TrainStage)
    torch.manual_seed(0)
    objective_module = spec.objective.build(BuildContext(latent_shape=shape))
    return spec, TrainTask(objective_module, {}, (), autocast_dtype(engine.precision)), shape


class EngineRun:
    """The engine's loop around a task: data, forward, backward, update, metrics; no checkpoints."""

    def __init__(
        self,
        name: str,
        steps: int,
        settings: Mapping[str, Any] | None = None,
        dataset: Dataset | None = None,
        num_workers: int = 0,
        **changes: Any,
    ) -> None:
        self.engine_spec = EngineSpec.model_validate(settings or {})
        self.spec, self.task, shape = build(name, steps, self.engine_spec, **changes)
        self.dataset = dataset or Noise(shape)
        self.num_workers = num_workers
        self.ranks: Ranks = distributed.start()
        self.engine = initialize(self.task, self.spec, self.engine_spec, self.ranks)
        self.log = MetricsLog(Path(tempfile.mkdtemp()) / "metrics.jsonl")

    def __call__(self) -> None:
        """Trains for the steps of the stage, again."""
        folder = self.log.path.parent
        loop = TrainingLoop(
            engine=self.engine,
            spec=self.spec,
            engine_spec=self.engine_spec,
            seed=0,
            dataset=self.dataset,
            num_workers=self.num_workers,
            ranks=self.ranks,
            averages=[],
            guard=NumericalGuard(
                folder=folder,
                ranks=self.ranks,
                gate=UpdateGate(device=self.ranks.device, max_skipped=self.spec.max_skipped),
            ),
            adversary=None,
            parts={},
            checkpoints=Nowhere(folder, self.ranks, 1),
            log=self.log,
            stop=StopRequest(),
            on_unreadable=len,
        )
        loop.run(0, StageProgress(Console(quiet=True), "benchmark", self.spec.steps))
