"""Batches whose loss or gradient was not finite, on disk, so that the failure can be repeated anywhere.

broken = read_nonfinite_batch(Path("nonfinite/step-00000012-rank-1-micro-0.safetensors"))
task.load_state_dict(load_file(broken.weights))  # the task that the stage builds
output = broken.run(task)                         # gives the same not-finite term
"""

import json
from pathlib import Path

import attrs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TaskOutput, TrainTask
from diffusability.core.errors import CheckpointError
from diffusability.core.numerics.randomness import BatchRandomness

FORMAT = "diffusability-nonfinite-batch"


@attrs.frozen(kw_only=True, eq=False)
class NonfiniteBatch:
    """A micro batch on which training broke, with all that a forward pass depends on.

    Attributes:
        batch: data, labels and randomness (seed, step, positions in the global batch).
        rank: which rank computed it, and at which ``accumulation`` (from 0) of its step.
        accumulation: see ``rank``.
        term: the loss term that broke first; ``gradient`` when every loss was finite.
        value: the value of that term; ``nan`` for a gradient.
        global_seed: what torch's global generator was seeded with before the forward pass.
        weights: file of the task's weights at that time (its state dict, safetensors).
    """

    batch: Batch
    rank: int
    accumulation: int
    term: str
    value: float
    global_seed: int
    weights: Path

    @property
    def step(self) -> int:
        """The optimizer step, from 0."""
        return self.batch.randomness.step

    def run(self, task: TrainTask) -> TaskOutput:
        """The forward pass that broke, on a task that holds ``weights``."""
        torch.manual_seed(self.global_seed)
        output: TaskOutput = task(self.batch)
        return output

    def write(self, folder: Path) -> Path:
        """Writes one safetensors file, the facts in its header; returns its path."""
        randomness = self.batch.randomness
        facts = {
            "format": FORMAT,
            "step": randomness.step,
            "seed": randomness.seed,
            "positions": list(randomness.positions),
            "rank": self.rank,
            "accumulation": self.accumulation,
            "term": self.term,
            "value": str(self.value),
            "global_seed": self.global_seed,
            "weights": self.weights.name,
        }
        tensors = {"data": self.batch.data.cpu().contiguous()}
        if self.batch.labels is not None:
            tensors["labels"] = self.batch.labels.cpu().contiguous()
        path = folder / f"step-{self.step:08d}-rank-{self.rank}-micro-{self.accumulation}.safetensors"
        save_file(tensors, path, metadata={"facts": json.dumps(facts, allow_nan=False)})
        return path


def read_nonfinite_batch(path: Path) -> NonfiniteBatch:
    """Reads what a stopped run has left in ``nonfinite/``.

    Raises:
        CheckpointError: the file is missing, cut short or of another format.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file of tensors is not a mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read as a saved batch: {error}") from None
    if facts.get("format") != FORMAT:
        raise CheckpointError(f"{str(path)!r} has format {facts.get('format')!r}; expected {FORMAT!r}")
    randomness = BatchRandomness(seed=facts["seed"], step=facts["step"], positions=facts["positions"])
    return NonfiniteBatch(
        batch=Batch(data=tensors["data"], labels=tensors.get("labels"), randomness=randomness),
        rank=facts["rank"],
        accumulation=facts["accumulation"],
        term=facts["term"],
        value=float(facts["value"]),
        global_seed=facts["global_seed"],
        weights=path.parent / facts["weights"],
    )
