"""A fine-tuning step with scale equivariance against the plain one, on the same autoencoder, in one process.

    python benchmarks/se_step.py [--rounds 6] [--batch-size 4] [--resolution 128] [--precision bf16|fp32]

The autoencoder is FluxAE's architecture at widths (32, 64, 128, 128) with 16 channels. A step is forward, backward and
AdamW. Factor 2 and factor 4 are timed each; one of them is drawn at each training step, so their mean counts. Prints
one line of JSON: the median seconds of each, and the medians of the ratios round by round.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TrainTask
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import ObjectiveSpec, RegularizerSpec

OBJECTIVE = {
    "kind": "reconstruction",
    "autoencoder": {"kind": "flux", "width": 32},
    "freeze_decoder_tail": True,
}


def step_of(factor: int | None, batch: Batch, precision: str) -> Callable[[], None]:
    """A training step, with scale equivariance at one factor, or without."""
    torch.manual_seed(0)
    objective = ObjectiveSpec.model_validate(OBJECTIVE).build(BuildContext())
    specs = []
    if factor is not None:
        specs = [RegularizerSpec.model_validate({"kind": "scale-equivariance", "weight": 0.25, "factors": [factor]})]
    task = TrainTask(
        objective,
        {spec.label: spec.build(BuildContext()) for spec in specs},
        specs,
        torch.bfloat16 if precision == "bf16" else None,
    )
    optimizer = torch.optim.AdamW((p for p in task.parameters() if p.requires_grad), lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        task(batch).loss.backward()
        optimizer.step()

    return step


def main() -> None:
    """Times the steps in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    arguments = parser.parse_args()
    side = arguments.resolution
    images = torch.rand(arguments.batch_size, 3, side, side) * 2 - 1
    batch = Batch(
        data=images.contiguous(memory_format=torch.channels_last),
        labels=None,
        randomness=BatchRandomness(seed=0, step=0, positions=range(arguments.batch_size)),
    )
    steps = {name: step_of(name, batch, arguments.precision) for name in (None, 2, 4)}
    for step in steps.values():
        step()  # warm-up
    times: list[dict[int | None, float]] = []
    for number in range(arguments.rounds):
        row = {}
        for name in list(steps)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            steps[name]()
            row[name] = time.perf_counter() - started
        times.append(row)
    print(
        json.dumps(
            {
                "benchmark": "se_step",
                "precision": arguments.precision,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "plain_s": round(statistics.median(row[None] for row in times), 4),
                "factor_2_ratio": round(statistics.median(row[2] / row[None] for row in times), 4),
                "factor_4_ratio": round(statistics.median(row[4] / row[None] for row in times), 4),
                "ratio": round(statistics.median((row[2] + row[4]) / 2 / row[None] for row in times), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
