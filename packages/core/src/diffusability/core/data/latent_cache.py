"""The files of cached latents: shards of posterior means and log variances, and what they were made from."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors.torch import save_file
from torch import Tensor

from diffusability.core.data.latent_origin import Origin, refuse_other
from diffusability.core.data.shard_reader import ShardReader
from diffusability.core.errors import DataError
from diffusability.core.normalizer import ChannelStatistics, LatentNormalizer

INDEX = "cache.json"
FORMAT = "diffusability-latents"


@attrs.frozen(kw_only=True)
class CacheIndex:
    """What ``cache.json`` says.

    Attributes:
        shard_sizes: examples in each shard.
        shape: shape ``(c, *t, h, w)`` of one example.
        deterministic: True when there is no log variance.
        flips: True when each example is also cached mirrored.
        num_classes: labels, or None.
        mean: per-channel mean of the latents (samples of the posterior).
        std: per-channel standard deviation.
        provenance: digests and specs of the autoencoder and the data.
    """

    shard_sizes: tuple[int, ...]
    shape: tuple[int, ...]
    deterministic: bool
    flips: bool
    num_classes: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: dict[str, Any]

    @property
    def num_samples(self) -> int:
        """Cached examples."""
        return sum(self.shard_sizes)

    def normalizer(self) -> LatentNormalizer:
        """The normaliser that goes with these latents."""
        return LatentNormalizer(torch.tensor(self.mean), torch.tensor(self.std))


def shard_path(directory: Path, shard: int) -> Path:
    """File of a shard."""
    return directory / f"shard-{shard:05d}.safetensors"


@attrs.frozen(kw_only=True)
class ShardOrigin:
    """What a shard is made of: the autoencoder, the images with their transform, and which of them (a digest)."""

    autoencoder: Origin
    data: Origin
    indices: str


def write_shard(
    directory: Path, shard: int, tensors: Mapping[str, Tensor], statistics: ChannelStatistics, origin: ShardOrigin
) -> None:
    """Writes a shard so that it appears whole or not at all, with the channel statistics of its latents."""
    path = shard_path(directory, shard)
    partial = path.with_suffix(".partial")
    # One entry: safetensors writes several in any order, and equal shards are to be equal files.
    facts = json.dumps({"statistics": statistics.state(), "origin": attrs.asdict(origin)}, allow_nan=False)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata={"facts": facts})
    os.replace(partial, path)


def shard_statistics(shard: ShardReader) -> ChannelStatistics:
    """The channel statistics that a shard carries."""
    return ChannelStatistics.from_state(json.loads(shard.metadata["facts"])["statistics"])


def open_shard(directory: Path, shard: int) -> ShardReader:
    """A shard's rows. Raises DataError when it is missing or cut short."""
    return ShardReader(shard_path(directory, shard))


def holds(directory: Path, shard: int, origin: ShardOrigin) -> bool:
    """True when a shard exists, is whole, and holds these very examples.

    Raises:
        DataError: it was made with another autoencoder or of other images; names both.
    """
    path = shard_path(directory, shard)
    if not path.is_file():
        return False
    try:
        found = json.loads(ShardReader(path).metadata.get("facts", "{}")).get("origin", {})
    except DataError:
        return False
    advice = f"remove {str(directory)!r} to encode anew"
    refuse_other(f"latent shard {str(path)!r}", found.get("autoencoder"), origin.autoencoder, advice)
    refuse_other(f"latent shard {str(path)!r}", found.get("data"), origin.data, advice)
    return bool(found.get("indices") == origin.indices)


def remove_shards_from(directory: Path, first: int) -> None:
    """Removes shards that an interrupted run with smaller shards left behind."""
    while shard_path(directory, first).is_file():
        shard_path(directory, first).unlink()
        first += 1


def write_index(directory: Path, index: CacheIndex) -> None:
    """Writes ``cache.json``."""
    path = directory / INDEX
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"format": FORMAT, **attrs.asdict(index)}, indent=2, allow_nan=False) + "\n")
    os.replace(partial, path)


def read_index(directory: Path) -> CacheIndex:
    """Reads ``cache.json``. Raises DataError when it is missing or not of this format."""
    path = directory / INDEX
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"no latent cache in {str(directory)!r}: {INDEX} is missing") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{str(path)!r} is not valid JSON: {error}") from None
    if content.pop("format", None) != FORMAT:
        raise DataError(f"{str(path)!r} does not describe a latent cache")
    tuples = {name: tuple(content[name]) for name in ("shard_sizes", "shape", "mean", "std")}
    return CacheIndex(**{**content, **tuples})
