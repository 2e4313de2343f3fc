"""Our training step against a bare plain-torch loop on the same model, data and precision, in one process.

    python benchmarks/engine_overhead.py [--rounds 7] [--steps 15] [--model compact-kl|dit-s]

Both are timed in turns, so that a machine whose speed drifts slows both. Prints one line of JSON: the median and the
least seconds a step of each, the median of the ratios round by round, and the ratio of the least.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from engine_runs import MODELS, EngineRun, Noise, build

from diffusability.core.engine.batches import BatchPlan, batches, moved
from diffusability.core.specs.engine import EngineSpec


def plain(name: str, steps: int) -> Callable[[], None]:
    """The shortest loop that trains the same thing."""
    spec, task, shape = build(name, steps, EngineSpec())
    dataset = Noise(shape)
    optimizer = torch.optim.AdamW(task.parameters(), lr=spec.optimizer.lr, fused=True)
    plan = BatchPlan(seed=0, batch_size=spec.batch_size, micro_batch_size=spec.batch_size, rank=0, num_ranks=1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task.to(device)

    def run() -> None:
        for loaded in batches(dataset, plan, 0, steps):
            loss = task(moved(loaded.batch, device)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()

    return run


def seconds(run: Callable[[], None]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Times both loops in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="compact-kl")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=15)
    arguments = parser.parse_args()
    loops: dict[str, Callable[[], None]] = {
        "engine": EngineRun(arguments.model, arguments.steps),
        "plain": plain(arguments.model, arguments.steps),
    }
    for loop in loops.values():
        loop()  # warm-up
    times = [{name: seconds(loop) / arguments.steps for name, loop in loops.items()} for _ in range(arguments.rounds)]
    columns = {name: [row[name] for row in times] for name in loops}
    print(
        json.dumps(
            {
                "benchmark": "engine_overhead",
                "model": arguments.model,
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                **{f"{name}_s_per_step": round(statistics.median(column), 4) for name, column in columns.items()},
                **{f"{name}_least_s_per_step": round(min(column), 4) for name, column in columns.items()},
                "ratio": round(statistics.median(row["engine"] / row["plain"] for row in times), 4),
                "ratio_of_least": round(min(columns["engine"]) / min(columns["plain"]), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
