"""The encode stage's path against a bare loop over the same diffusers AutoencoderKL, in one process.

    python benchmarks/encode_throughput.py [--rounds 5] [--samples 32] [--batch-size 4] [--resolution 128]

Both read the same photographs, encode them and their mirror images, keep mean and log variance in half precision and
write one safetensors file; both are timed in turns. Prints one line of JSON: the median samples per second of each,
and the median of the ratios round by round.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.contracts.dataset import Dataset
from diffusability.core.data.latents.latent_cache import ShardOrigin, write_shard
from diffusability.core.data.latents.latent_origin import autoencoder_origin, data_origin, indices_digest
from diffusability.core.data.specs.sample_photos import SamplePhotosSpec
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.stages.encoding import Encoder
from diffusability.core.stages.evaluation_data import fixed_order

FLUX = {"kind": "flux", "width": 32}


def ours(photographs: SamplePhotosSpec, dataset: Dataset, indices: list[int], batch_size: int) -> Callable[[], None]:
    """The encode stage without the run around it."""
    spec = AutoencoderSpec.model_validate(FLUX)
    torch.manual_seed(0)
    autoencoder = build_autoencoder(spec).eval().requires_grad_(False)
    folder = Path(tempfile.mkdtemp())

    # Once a stage, whatever the number of its samples: hashes the weights.
    model, data = autoencoder_origin(autoencoder, spec.kind), data_origin(photographs, "train")

    def run() -> None:
        origin = ShardOrigin(autoencoder=model, data=data, indices=indices_digest(indices))
        encoder = Encoder(
            autoencoder=autoencoder,
            device=torch.device("cpu"),
            dataset=dataset,
            batch_size=batch_size,
            num_workers=0,
            flips=True,
            stop=StopRequest(),
            on_unreadable=lambda reports: None,
            on_batch=lambda done: None,
            on_estimate=lambda estimate: None,
            num_samples=len(indices),
            num_ranks=1,
        )
        for shard, encoded in encoder.shards({0: indices}):
            write_shard(folder, shard, encoded.tensors(), encoded.statistics, origin)

    return run


def bare(dataset: Dataset, indices: list[int], batch_size: int) -> Callable[[], None]:
    """The loop that one would write by hand."""
    spec = AutoencoderSpec.model_validate(FLUX)
    torch.manual_seed(0)
    model: AutoencoderKL = build_autoencoder(spec).model.eval().requires_grad_(False)
    folder = Path(tempfile.mkdtemp())

    @torch.no_grad()
    def run() -> None:
        columns: dict[str, list[torch.Tensor]] = {}
        for first in range(0, len(indices), batch_size):
            images = torch.stack([dataset[index].data for index in indices[first : first + batch_size]])
            for suffix, view in (("", images), ("_flipped", images.flip(-1))):
                posterior = model.encode(view).latent_dist
                columns.setdefault(f"mean{suffix}", []).append(posterior.mean.half())
                columns.setdefault(f"logvar{suffix}", []).append(posterior.logvar.half())
        save_file(
            {name: torch.cat(parts).contiguous() for name, parts in columns.items()}, folder / "latents.safetensors"
        )

    return run


def main() -> None:
    """Times both in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=128)
    arguments = parser.parse_args()
    photographs = SamplePhotosSpec(resolution=arguments.resolution)
    dataset = photographs.build(BuildContext(), "train")
    indices = fixed_order(dataset, arguments.samples)
    runs = {
        "stage": ours(photographs, dataset, indices, arguments.batch_size),
        "bare": bare(dataset, indices, arguments.batch_size),
    }
    for run in runs.values():
        run()  # warm-up
    rates = []
    for number in range(arguments.rounds):
        row = {}
        for name in sorted(runs, reverse=bool(number % 2)):
            started = time.perf_counter()
            runs[name]()
            row[name] = arguments.samples / (time.perf_counter() - started)
        rates.append(row)
    print(
        json.dumps(
            {
                "benchmark": "encode_throughput",
                "resolution": arguments.resolution,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "stage_samples_per_s": round(statistics.median(row["stage"] for row in rates), 3),
                "bare_samples_per_s": round(statistics.median(row["bare"] for row in rates), 3),
                "ratio": round(statistics.median(row["stage"] / row["bare"] for row in rates), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
