"""Our training step against a bare plain-torch loop on the same model, data and precision, in one process.

    python benchmarks/engine_overhead.py [--rounds 5] [--steps 10] [--model compact-kl|dit-s]

Both are timed in turns, so that a machine whose speed drifts slows both. Prints one line of JSON: the median seconds a
step of each, and the median of the ratios round by round.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from diffusability.core.build import BuildContext
from diffusability.core.dataset import Dataset, Example
from diffusability.core.engine import distributed
from diffusability.core.engine.batches import BatchPlan, batches, moved
from diffusability.core.engine.checkpoints import Checkpoints
from diffusability.core.engine.deepspeed_engine import initialize
from diffusability.core.engine.metrics_log import MetricsLog
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.engine.task import TrainTask
from diffusability.core.engine.training_loop import TrainingLoop
from diffusability.core.progress import StageProgress
from diffusability.core.specs.engine import EngineSpec
from diffusability.core.specs.stages import StageSpec, TrainStage

OBJECTIVES = {
    "compact-kl": ({"kind": "reconstruction", "autoencoder": {"kind": "compact-kl"}}, (3, 64, 64), 32),
    "dit-s": ({"kind": "flow-matching", "denoiser": {"kind": "dit", "size": "S/2"}}, (4, 32, 32), 8),
}


class Noise(Dataset):
    """Fixed random examples, so that loading costs both loops the same."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.data = torch.randn(64, *shape).clamp(-1, 1)

    def __len__(self) -> int:
        return len(self.data)

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        return Example(data=self.data[index])


class Nowhere(Checkpoints):
    """Saves nothing: the plain loop does not either."""

    def save(self, engine: object, step: int, state: object, averages: object) -> None:
        """Does nothing."""


def build(name: str, steps: int) -> tuple[TrainStage, TrainTask, Dataset]:
    """A training stage, its task and its data."""
    objective, shape, batch_size = OBJECTIVES[name]
    spec = StageSpec.model_validate(
        {"kind": "train", "objective": objective, "steps": steps, "batch_size": batch_size, "log_every": 10**6}
    )
    assert isinstance(spec, TrainStage)
    torch.manual_seed(0)
    task = TrainTask(spec.objective.build(BuildContext(latent_shape=shape)), {}, (), torch.bfloat16)
    return spec, task, Noise(shape)


def ours(name: str, steps: int) -> Callable[[], float]:
    """Seconds a step of the engine's loop: data, forward, backward, update, metrics."""
    spec, task, dataset = build(name, steps)
    ranks = distributed.start()
    engine_spec = EngineSpec()
    engine = initialize(task, spec, engine_spec, ranks)
    folder = Path(tempfile.mkdtemp())

    def run() -> float:
        loop = TrainingLoop(
            engine=engine,
            spec=spec,
            engine_spec=engine_spec,
            seed=0,
            dataset=dataset,
            num_workers=0,
            ranks=ranks,
            ema=None,
            checkpoints=Nowhere(folder, ranks, 1),
            log=MetricsLog(folder / "metrics.jsonl"),
            stop=StopRequest(),
            on_unreadable=lambda reports: 0,
        )
        started = time.perf_counter()
        loop.run(0, StageProgress(Console(quiet=True), name, steps))
        return (time.perf_counter() - started) / steps

    return run


def plain(name: str, steps: int) -> Callable[[], float]:
    """Seconds a step of the shortest loop that trains the same thing."""
    spec, task, dataset = build(name, steps)
    optimizer = torch.optim.AdamW(task.parameters(), lr=spec.optimizer.lr, fused=True)
    plan = BatchPlan(seed=0, batch_size=spec.batch_size, micro_batch_size=spec.batch_size, rank=0, num_ranks=1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task.to(device)

    def run() -> float:
        started = time.perf_counter()
        for loaded in batches(dataset, plan, 0, steps):
            loss = task(moved(loaded.batch, device)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
        return (time.perf_counter() - started) / steps

    return run


def main() -> None:
    """Times both loops in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(OBJECTIVES), default="compact-kl")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    loops = {"engine": ours(arguments.model, arguments.steps), "plain": plain(arguments.model, arguments.steps)}
    for loop in loops.values():
        loop()  # warm-up
    times = [{name: loop() for name, loop in loops.items()} for _ in range(arguments.rounds)]
    print(
        json.dumps(
            {
                "benchmark": "engine_overhead",
                "model": arguments.model,
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "engine_s_per_step": round(statistics.median(row["engine"] for row in times), 4),
                "plain_s_per_step": round(statistics.median(row["plain"] for row in times), 4),
                "ratio": round(statistics.median(row["engine"] / row["plain"] for row in times), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
