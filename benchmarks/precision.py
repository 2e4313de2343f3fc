"""A training step in bf16 against float32 on this device, and which of the two the precision ``auto`` takes.

    python benchmarks/precision.py [--rounds 3]

A small autoencoder (``compact-kl`` at 64 px, batch 8) and a DiT-Ti/2 (latents of 4x16x16, batch 8): forward, backward
and fused AdamW, in turns. Prints one line of JSON: for each model the median seconds of a step in both, and the median
of the ratios round by round.
"""

import argparse
import json
import statistics
import time

import torch

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TrainTask
from diffusability.core.numerics.precision import autocast_dtype, resolve_precision
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.run.freed_memory import keep_freed_memory
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import ObjectiveSpec

MODELS = {
    "compact-kl": {
        "kind": "reconstruction",
        "autoencoder": {"kind": "compact-kl", "spatial_factor": 8, "latent_channels": 16, "width": 48, "blocks": 2},
    },
    "dit-ti": {"kind": "flow-matching", "denoiser": {"kind": "dit", "size": "Ti/2"}},
}
SHAPES = {"compact-kl": (8, 3, 64, 64), "dit-ti": (8, 4, 16, 16)}


class Step:
    """A training step of a model at a precision; a call returns its seconds."""

    def __init__(self, name: str, precision: str, device: str) -> None:
        torch.manual_seed(0)
        self.shape, self.device = SHAPES[name], device
        context = BuildContext(seed=0, latent_shape=self.shape[1:] if name.startswith("dit") else None)
        objective = ObjectiveSpec.model_validate(MODELS[name]).build(context)
        self.task = TrainTask(objective, {}, (), autocast_dtype(precision, device)).to(device).train()
        self.optimizer = torch.optim.AdamW(self.task.parameters(), lr=1e-4, fused=True)

    def __call__(self) -> float:
        randomness = BatchRandomness(seed=0, step=0, positions=range(self.shape[0]))
        batch = Batch(data=torch.zeros(self.shape, device=self.device), labels=None, randomness=randomness)
        started = time.perf_counter()
        self.optimizer.zero_grad()
        self.task(batch).loss.backward()
        self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def measure(name: str, rounds: int, device: str) -> dict[str, object]:
    """Seconds of both precisions, and their ratio."""
    steps = {precision: Step(name, precision, device) for precision in ("fp32", "bf16")}
    for step in steps.values():
        step()
    times = [{precision: step() for precision, step in steps.items()} for _ in range(rounds)]
    return {
        "s_per_step": {precision: round(statistics.median(row[precision] for row in times), 4) for precision in steps},
        "bf16_over_fp32": round(statistics.median(row["bf16"] / row["fp32"] for row in times), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    by_model = {name: measure(name, arguments.rounds, device) for name in MODELS}
    print(json.dumps({"benchmark": "precision", "auto": resolve_precision("auto", device), **by_model}))


if __name__ == "__main__":
    main()
