"""What it is worth on a CPU that memory of freed tensors is kept (``diffusability.core.run.freed_memory``).

    python benchmarks/freed_memory.py [--rounds 3] [--steps 10]

Trains a small autoencoder (``compact-kl`` at 128 px, batch 16) and a DiT-S/2 (batch 4) in processes of their own, in
turns with and without it. Prints one line of JSON for each: medians of processor seconds a step, of the kernel's share
of them and of peak memory, and the ratio of the seconds round by round.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

MODELS = {
    "compact-kl": {
        "kind": "reconstruction",
        "autoencoder": {"kind": "compact-kl", "spatial_factor": 4, "latent_channels": 16, "width": 48, "blocks": 2},
    },
    "dit-s": {"kind": "flow-matching", "denoiser": {"kind": "dit", "size": "S/2"}},
}
SHAPES = {"compact-kl": (16, 3, 128, 128), "dit-s": (4, 4, 32, 32)}


def measure(name: str, steps: int, keep: bool) -> None:
    """Prints seconds a step, the kernel's share and peak bytes of this process."""
    if keep:
        from diffusability.core.run.freed_memory import keep_freed_memory

        assert keep_freed_memory(), "malloc is not glibc's, or the environment has settings for it"
    import torch

    from diffusability.core.contracts.objective import Batch
    from diffusability.core.engine.task import TrainTask
    from diffusability.core.numerics.randomness import BatchRandomness
    from diffusability.core.specs.build_context import BuildContext
    from diffusability.core.specs.components import ObjectiveSpec

    torch.manual_seed(0)
    shape = SHAPES[name]
    context = BuildContext(seed=0, latent_shape=shape[1:] if name.startswith("dit") else None)
    task = TrainTask(ObjectiveSpec.model_validate(MODELS[name]).build(context), {}, (), torch.bfloat16).train()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4, fused=True)
    randomness = BatchRandomness(seed=0, step=0, positions=range(shape[0]))
    batch = Batch(data=torch.rand(shape) * 2 - 1, labels=None, randomness=randomness)

    def step() -> None:
        optimizer.zero_grad()
        task(batch).loss.backward()
        optimizer.step()

    for _ in range(3):
        step()
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    for _ in range(steps):
        step()
    seconds = time.process_time() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([seconds / steps, (after.ru_stime - before.ru_stime) / seconds, after.ru_maxrss * 1024]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--single", nargs=2, metavar=("MODEL", "KEEP"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.single:
        measure(arguments.single[0], arguments.steps, arguments.single[1] == "kept")
        return
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    for name in MODELS:
        by_way: dict[str, list[list[float]]] = {"given_back": [], "kept": []}
        for _ in range(arguments.rounds):
            for way, rows in by_way.items():
                command = [sys.executable, __file__, "--steps", str(arguments.steps), "--single", name, way]
                done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout))
        names = ("cpu_s_per_step", "kernel_share", "peak_bytes")
        medians = {
            way: {key: round(statistics.median(row[place] for row in rows), 4) for place, key in enumerate(names)}
            for way, rows in by_way.items()
        }
        ratios = [a[0] / b[0] for a, b in zip(by_way["given_back"], by_way["kept"], strict=True)]
        print(json.dumps({"model": name, **medians, "speedup": round(statistics.median(ratios), 3)}))


if __name__ == "__main__":
    main()
