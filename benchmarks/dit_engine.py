"""DiT-S/2 through the engine: bf16 with compilation against eager float32, and against a large matmul.

    python benchmarks/dit_engine.py [--rounds 3] [--steps 3]

Latents of 4x32x32, batch 8; forward, backward, clipping, fused AdamW and metrics. All are timed in turns. Prints one
line of JSON: samples a second of each, their ratio, and the share that the model's FLOP/s have of a 2048-wide bf16
matmul's in the same rounds. FLOPs are those of the model's matmuls and attention, forward and backward, as torch's
counter finds them; the update and the elementwise work count as time only.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from engine_runs import EngineRun, Noise, build
from torch.utils.flop_counter import FlopCounterMode

from diffusability.core.engine.batches import BatchPlan, batches
from diffusability.core.specs.engine import EngineSpec

MATMUL_SIZE = 2048


def flop_of_a_step() -> int:
    """Of forward and backward, counted on the eager model."""
    spec, task, shape = build("dit-s", 1, EngineSpec(precision="fp32"))
    size = spec.batch_size
    plan = BatchPlan(seed=0, batch_size=size, micro_batch_size=size, rank=0, num_ranks=1)
    (loaded,) = batches(Noise(shape), plan, 0, 1)
    with FlopCounterMode(display=False) as counter:
        task(loaded.batch).loss.backward()
    return counter.get_total_flops()


def matmuls(count: int) -> Callable[[], None]:
    """Large bf16 matmuls."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    left, right = (torch.randn(MATMUL_SIZE, MATMUL_SIZE, device=device).bfloat16() for _ in range(2))

    def run() -> None:
        for _ in range(count):
            product = left @ right
        product[0, 0].item()

    return run


def seconds(run: Callable[[], None]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Times eager float32, compiled bf16 and the matmul in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    num_matmuls = 20
    loops: dict[str, Callable[[], None]] = {
        "eager_fp32": EngineRun("dit-s", arguments.steps, {"precision": "fp32"}),
        "compiled_bf16": EngineRun("dit-s", arguments.steps, {"precision": "bf16", "compile": True}),
        "matmul": matmuls(num_matmuls),
    }
    for loop in loops.values():
        loop()  # compilation, warm-up
    times = [{name: seconds(loop) for name, loop in loops.items()} for _ in range(arguments.rounds)]
    flop, batch = flop_of_a_step() * arguments.steps, 8 * arguments.steps
    matmul_flop = 2 * MATMUL_SIZE**3 * num_matmuls
    shares = [flop / row["compiled_bf16"] / (matmul_flop / row["matmul"]) for row in times]
    median = {name: statistics.median(row[name] for row in times) for name in loops}
    print(
        json.dumps(
            {
                "benchmark": "dit_engine",
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "eager_fp32_samples_per_s": round(batch / median["eager_fp32"], 3),
                "compiled_bf16_samples_per_s": round(batch / median["compiled_bf16"], 3),
                "speedup": round(statistics.median(row["eager_fp32"] / row["compiled_bf16"] for row in times), 3),
                "flop_per_step": flop // arguments.steps,
                "compiled_bf16_gflop_per_s": round(flop / median["compiled_bf16"] / 1e9, 1),
                "matmul_gflop_per_s": round(matmul_flop / median["matmul"] / 1e9, 1),
                "share_of_matmul": round(statistics.median(shares), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
