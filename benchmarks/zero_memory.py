"""Bytes of optimizer state and of weights on each of two ranks at every ZeRO stage, against stage 0.

    python benchmarks/zero_memory.py

Starts two processes, which train DiT-S/2 on 4x16x16 latents for one step at each stage and count the tensors that they
hold between steps. Prints one line of JSON: AdamW's two moments, ZeRO's copy of the weights that it updates, and the
weights that compute, each of the rank with the most, and the ratios to stage 0.
"""

import json
import os
import socket
import subprocess
import sys
from typing import Any

RANKS = 2


def held(engine: Any) -> dict[str, int]:
    """Bytes that this rank holds between two steps."""
    from diffusability.core.engine.checkpoints.master_weights import MOMENTS, partitions

    moments = masters = 0
    for partition in partitions(engine):
        state = partition.optimizer.state[partition.weights]
        moments += sum(state[name].nbytes for name in MOMENTS)
        masters += partition.weights.nbytes if engine.zero_optimization_stage() > 0 else 0
    weights = sum(
        value.ds_tensor.nbytes + (0 if value.data_ptr() == value.ds_tensor.data_ptr() else value.nbytes)
        if hasattr(value, "ds_tensor")
        else value.nbytes
        for value in engine.module.parameters()
    )
    return {"moments": moments, "masters": masters, "weights": weights}


def count() -> None:
    """One rank: trains at each stage and prints, on the first rank, the most that a rank holds."""
    from engine_runs import MODELS, EngineRun

    MODELS["dit-s"] = (MODELS["dit-s"][0], (4, 16, 16), RANKS)
    by_stage = {}
    for stage in range(4):
        run = EngineRun("dit-s", 1, {"zero_stage": stage})
        run()
        everywhere = run.ranks.gathered(held(run.engine))
        by_stage[stage] = {name: max(rank_numbers[name] for rank_numbers in everywhere) for name in everywhere[0]}
        run.engine.destroy()
    if run.ranks.is_main:
        report = {
            f"zero_{stage}": {
                **{f"{name}_bytes": number for name, number in numbers.items()},
                "moments_ratio": round(numbers["moments"] / by_stage[0]["moments"], 4),
                "weights_ratio": round(numbers["weights"] / by_stage[0]["weights"], 4),
            }
            for stage, numbers in by_stage.items()
        }
        print(json.dumps({"benchmark": "zero_memory", "ranks": RANKS, **report}), flush=True)
    run.ranks.barrier()
    os._exit(0)  # gloo's threads need not be waited for


def main() -> None:
    """Starts the ranks."""
    if "RANK" in os.environ:
        count()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, __file__], env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": "0"})
        for rank in range(RANKS)
    ]
    sys.exit(max(process.wait() for process in processes))


if __name__ == "__main__":
    main()
