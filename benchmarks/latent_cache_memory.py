"""How much memory training on a large latent cache touches.

    python benchmarks/latent_cache_memory.py [--gib 1.0] [--batch-size 64]

Makes a cache of latents 4x32x32 (mean and log variance, both flips, half precision) as a sparse file, and loads one
epoch of it through the training loader. Prints one line of JSON: by how much the resident set grew at most (all pages
that count for this process, those of mapped files too), against the bytes of one batch, and the same for reading the
rows through a memory map instead.
"""

import argparse
import json
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

from diffusability.core.data.latents.latent_cache import CacheIndex, shard_path, write_index
from diffusability.core.data.latents.latents import Latents
from diffusability.core.engine.batches import BatchPlan, batches

SHAPE = (4, 32, 32)
NAMES = ("mean", "logvar", "mean_flipped", "logvar_flipped")
ROW_BYTES = 2 * 4 * 32 * 32


def sparse_cache(folder: Path, num_bytes: int, shard_size: int = 4096) -> int:
    """Writes a cache of zeros that takes no room on disk; returns its number of samples."""
    count = num_bytes // (len(NAMES) * ROW_BYTES)
    sizes = [min(shard_size, count - first) for first in range(0, count, shard_size)]
    for shard, size in enumerate(sizes):
        block = size * ROW_BYTES
        header = {
            name: {"dtype": "F16", "shape": [size, *SHAPE], "data_offsets": [place * block, (place + 1) * block]}
            for place, name in enumerate(NAMES)
        }
        encoded = json.dumps(header).encode()
        encoded += b" " * (-len(encoded) % 8)
        with shard_path(folder, shard).open("wb") as file:
            file.write(struct.pack("<Q", len(encoded)) + encoded)
            file.truncate(8 + len(encoded) + len(NAMES) * block)
    index = CacheIndex(
        shard_sizes=tuple(sizes),
        shape=SHAPE,
        deterministic=False,
        flips=True,
        num_classes=None,
        mean=(0.0,) * 4,
        std=(1.0,) * 4,
        provenance={},
    )
    write_index(folder, index)
    return count


def resident_bytes() -> int:
    """The resident set of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth_of(epoch: Callable[[Callable[[], None]], None]) -> int:
    """By how much the resident set grows at most while an epoch is read."""
    before = resident_bytes()
    largest = before

    def look() -> None:
        nonlocal largest
        largest = max(largest, resident_bytes())

    epoch(look)
    return largest - before


def main() -> None:
    """Measures both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = sparse_cache(folder, int(arguments.gib * 2**30))
        dataset = Latents(folder)
        size = arguments.batch_size
        plan = BatchPlan(seed=0, batch_size=size, micro_batch_size=size, rank=0, num_ranks=1)
        next(iter(batches(dataset, plan, 0, 1)))  # warm-up: imports, allocator

        def ours(look: Callable[[], None]) -> None:
            for _ in batches(dataset, plan, 0, count // size):
                look()

        def mapped(look: Callable[[], None]) -> None:
            shards = [safe_open(path, framework="pt") for path in sorted(folder.glob("shard-*"))]
            for opened in shards:
                for tensor in NAMES:
                    rows = opened.get_slice(tensor)
                    for row in range(0, rows.get_shape()[0], size):
                        rows[row : row + size].float().sum()
                        look()

        started = time.perf_counter()
        growth = growth_of(ours)
        seconds = time.perf_counter() - started
        print(
            json.dumps(
                {
                    "benchmark": "latent_cache_memory",
                    "cache_gib": arguments.gib,
                    "samples": count,
                    "batch_mib": round(size * 2 * ROW_BYTES / 2**20, 3),
                    "resident_growth_mib": round(growth / 2**20, 2),
                    "samples_per_s": round(count / seconds),
                    "memory_map_growth_mib": round(growth_of(mapped) / 2**20, 2),
                    "torch": torch.__version__,
                }
            )
        )


if __name__ == "__main__":
    main()
