"""How much of a training step is spent waiting for data: the autoencoder task on JPEG files.

    python benchmarks/data_wait.py [--steps 20] [--workers 2] [--resolution 64] [--files 128]

Writes JPEG files of 500 by 375 pixels, as ImageNet's are on average, cut from the embedded photographs; trains
compact-kl on them at batch 32 through the engine's loop. Prints one line of JSON with the share for no workers and for
as many as asked. The first steps, in which workers start, do not count.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from engine_runs import EngineRun
from PIL import Image

from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import DatasetSpec

WIDTH, HEIGHT = 500, 375


def write_photographs(folder: Path, count: int) -> None:
    """Crops of the embedded photographs as JPEG files of quality 90."""
    spec = DatasetSpec.model_validate({"kind": "sample-photos", "resolution": 256})
    photographs = spec.build(BuildContext(), "train")
    for index in range(count):
        example = photographs.load(index % len(photographs), torch.Generator().manual_seed(index))
        pixels = example.data.add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
        image = Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        image.save(folder / f"{index:04d}.jpg", quality=90)


def measured(folder: Path, resolution: int, steps: int, workers: int) -> dict[str, float]:
    """Seconds a step, seconds of it that waited for data, and their ratio, after the first half of the steps."""
    spec = DatasetSpec.model_validate({"kind": "image-folder", "path": str(folder), "resolution": resolution})
    dataset = spec.build(BuildContext(), "train")
    run = EngineRun("compact-kl", steps, dataset=dataset, num_workers=workers, log_every=steps // 2)
    run()
    last = list(run.log.lines())[-1]
    return {
        "step_s": round(last["step_time_s"], 4),
        "wait_s": round(last["data_wait_s"], 5),
        "share": round(last["data_wait_s"] / last["step_time_s"], 4),
    }


def main() -> None:
    """Measures without and with workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--files", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_photographs(Path(name), arguments.files)
        shares = {
            f"workers_{workers}": measured(Path(name), arguments.resolution, arguments.steps, workers)
            for workers in (0, arguments.workers)
        }
    print(
        json.dumps(
            {
                "benchmark": "data_wait",
                "resolution": arguments.resolution,
                "threads": torch.get_num_threads(),
                **shares,
            }
        )
    )


if __name__ == "__main__":
    main()
