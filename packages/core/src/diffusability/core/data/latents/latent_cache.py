"""The files of cached latents: shards of posterior means and log variances, and what they were made from."""

import json
import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors.torch import save_file
from torch import Tensor

from diffusability.core.checksums import crc32_of_tensor, load_verified, save_with_checksums
from diffusability.core.contracts.normalizer import ChannelStatistics, LatentNormalizer
from diffusability.core.data.latents.latent_origin import Origin, refuse_other
from diffusability.core.data.latents.shard_reader import SUMS, ShardReader
from diffusability.core.errors import DataError
from diffusability.core.reading import read_json_object, reading
from diffusability.core.writing import replacing

INDEX = "cache.json"
#: Mean and standard deviation of each place or frame, where the normaliser has such.
NORMALIZER = "normalizer.safetensors"
FORMAT = "diffusability-latents"


@attrs.frozen(kw_only=True)
class CacheIndex:
    """The content of ``cache.json``.

    Attributes:
        shard_sizes: examples in each shard.
        shape: shape ``(c, *t, h, w)`` of one example.
        deterministic: True when there is no log variance.
        flips: True when each example is also cached mirrored.
        num_classes: labels, or None.
        mean: per-channel mean of the latents (samples of the posterior).
        std: per-channel standard deviation.
        provenance: digests and specs of the autoencoder and the data, as JSON.
        finer: True when the normaliser has statistics of each place or frame; they are in a file of their own.
    """

    shard_sizes: tuple[int, ...]
    shape: tuple[int, ...]
    deterministic: bool
    flips: bool
    num_classes: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: dict[str, Any]
    finer: bool = False

    @property
    def num_samples(self) -> int:
        """Cached examples."""
        return sum(self.shard_sizes)

    def normalizer(self, directory: Path) -> LatentNormalizer:
        """The normaliser that goes with these latents. Raises DataError when its file is missing or damaged."""
        if not self.finer:
            return LatentNormalizer(torch.tensor(self.mean), torch.tensor(self.std))
        path = directory / NORMALIZER
        with reading("normaliser of latents", path):
            tensors = load_verified(path)
            return LatentNormalizer(tensors["mean"], tensors["std"])


def places_path(directory: Path, shard: int) -> Path:
    """File of the statistics of each place of a shard's latents."""
    return directory / f"places-{shard:05d}.safetensors"


def shard_path(directory: Path, shard: int) -> Path:
    """File of a shard."""
    return directory / f"shard-{shard:05d}.safetensors"


@attrs.frozen(kw_only=True)
class ShardOrigin:
    """What a shard is made of: the autoencoder, the images with their transform, which of them (a digest), and in which
    precision.
    """

    autoencoder: Origin
    data: Origin
    indices: str
    precision: str = "fp32"

    def as_json(self) -> dict[str, Any]:
        """Its entry in the shard's metadata."""
        return {
            "autoencoder": self.autoencoder.as_json(),
            "data": self.data.as_json(),
            "indices": self.indices,
            "precision": self.precision,
        }


def write_shard(
    directory: Path, shard: int, tensors: Mapping[str, Tensor], statistics: ChannelStatistics, origin: ShardOrigin
) -> None:
    """Writes a shard so that it appears whole or not at all, with the channel statistics of its latents.

    Each column has another beside it with the CRC-32 of its rows, which is compared with each row that is read.
    """
    path = shard_path(directory, shard)
    # One entry: safetensors writes several in any order, and equal shards are to be equal files.
    facts = {"statistics": statistics.state(), "origin": origin.as_json()}
    text = json.dumps(facts | {"crc32": _sum_of(facts)}, allow_nan=False)
    columns = {name: tensor.contiguous() for name, tensor in tensors.items()}
    sums = {name + SUMS: torch.tensor([crc32_of_tensor(row) for row in rows]) for name, rows in columns.items()}
    with replacing(path) as partial:
        save_file(columns | sums, partial, metadata={"facts": text})


def _sum_of(facts: Mapping[str, Any]) -> int:
    """CRC-32 of a shard's metadata."""
    return zlib.crc32(json.dumps(facts, sort_keys=True, allow_nan=False).encode())


def _facts(shard: ShardReader) -> dict[str, Any]:
    """A shard's metadata. Raises DataError where they do not match their checksum, if they have one."""
    with reading("latent shard", shard.path):
        facts = dict(json.loads(shard.metadata["facts"]))
        if "crc32" in facts and facts.pop("crc32") != _sum_of(facts):
            raise DataError(f"latent shard {str(shard.path)!r} is damaged: its header does not match its checksum")
    return facts


def shard_statistics(shard: ShardReader) -> ChannelStatistics:
    """The channel statistics that a shard carries. Raises DataError where they are damaged."""
    return ChannelStatistics.from_state(_facts(shard)["statistics"])


def open_shard(directory: Path, shard: int) -> ShardReader:
    """A shard's rows. Raises DataError when it is missing or cut short."""
    return ShardReader(shard_path(directory, shard))


def holds(directory: Path, shard: int, origin: ShardOrigin, by_place: bool = False) -> bool:
    """True when a shard exists, is whole, and holds exactly these examples. Reads all of it.

    With ``by_place``, the statistics of its places must be there, too.

    Raises:
        DataError: it was made with another autoencoder, of other images or in another precision; names both.
    """
    path = shard_path(directory, shard)
    if not path.is_file() or (by_place and not places_path(directory, shard).is_file()):
        return False
    try:
        reader = ShardReader(path)
        reader.verify()
        recorded = dict(_facts(reader).get("origin", {}))
    except DataError:
        return False
    advice = f"remove {str(directory)!r} to encode again"
    refuse_other(f"latent shard {str(path)!r}", recorded.get("autoencoder"), origin.autoencoder, advice)
    refuse_other(f"latent shard {str(path)!r}", recorded.get("data"), origin.data, advice)
    before = recorded.get("precision", "fp32")  # shards of earlier versions do not say it
    if before != origin.precision:
        raise DataError(
            f"latent shard {str(path)!r} was encoded in {before}, and this device would go on in {origin.precision}: a"
            f" cache of both would not be the same again; set the stage's precision to {before}, or {advice}"
        )
    return bool(recorded.get("indices") == origin.indices)


def remove_shards_from(directory: Path, first: int) -> None:
    """Removes shards that an interrupted run with smaller shards left behind."""
    while shard_path(directory, first).is_file():
        shard_path(directory, first).unlink()
        places_path(directory, first).unlink(missing_ok=True)
        first += 1


def write_index(directory: Path, index: CacheIndex, normalizer: LatentNormalizer | None = None) -> None:
    """Writes ``cache.json`` and, of a normaliser of each place or frame (an index that is ``finer``), its file."""
    if index.finer:
        assert normalizer is not None
        statistics = {"mean": normalizer.mean.contiguous(), "std": normalizer.std.contiguous()}
        with replacing(directory / NORMALIZER) as partial:
            save_with_checksums(statistics, partial)
    with replacing(directory / INDEX) as partial:
        partial.write_text(json.dumps({"format": FORMAT, **attrs.asdict(index)}, indent=2, allow_nan=False) + "\n")


def read_index(directory: Path) -> CacheIndex:
    """Reads ``cache.json``. Raises DataError when it is missing, damaged or not of this format."""
    path = directory / INDEX
    if not path.is_file():
        raise DataError(f"no latent cache in {str(directory)!r}: {INDEX} is missing")
    content = read_json_object(path, "latent cache")
    if content.pop("format", None) != FORMAT:
        raise DataError(f"{str(path)!r} does not describe a latent cache")
    return _index_of(content, path)


def _index_of(content: dict[str, Any], path: Path) -> CacheIndex:
    """The index that a file's content makes. Raises DataError when an entry is missing, unknown or of another type."""
    types: dict[str, Callable[[Any], bool]] = {
        "shard_sizes": lambda value: _list_of(value, int) and all(size > 0 for size in value),
        "shape": lambda value: _list_of(value, int) and all(size > 0 for size in value) and bool(value),
        "deterministic": lambda value: isinstance(value, bool),
        "flips": lambda value: isinstance(value, bool),
        "num_classes": lambda value: value is None or (_list_of([value], int) and value > 0),
        "mean": lambda value: _list_of(value, int, float),
        "std": lambda value: _list_of(value, int, float) and all(entry > 0 for entry in value),
        "provenance": lambda value: isinstance(value, dict),
        "finer": lambda value: isinstance(value, bool),
    }
    content.setdefault("finer", False)  # caches of earlier versions do not say it
    missing = [name for name in types if name not in content]
    unknown = [name for name in content if name not in types]
    wrong = [name for name, fits in types.items() if name in content and not fits(content[name])]
    if missing or unknown or wrong:
        what = [
            f"{say} {', '.join(map(repr, names))}"
            for say, names in (("lacks", missing), ("has unknown", unknown), ("has unusable values of", wrong))
            if names
        ]
        raise DataError(f"latent cache {str(path)!r} is damaged: it {'; it '.join(what)}; encode again")
    channels = content["shape"][0]
    if not len(content["mean"]) == len(content["std"]) == channels:
        raise DataError(
            f"latent cache {str(path)!r} is damaged: {channels} channels, but {len(content['mean'])} means and"
            f" {len(content['std'])} standard deviations; encode again"
        )
    tuples = {name: tuple(content[name]) for name in ("shard_sizes", "shape", "mean", "std")}
    return CacheIndex(**{**content, **tuples})


def _list_of(value: Any, *types: type) -> bool:
    """Whether it is a list of finite numbers of these types; a bool is none."""
    if not isinstance(value, list):
        return False
    return all(
        isinstance(entry, int | float)
        and not isinstance(entry, bool)
        and isinstance(entry, types)
        and math.isfinite(entry)
        for entry in value
    )
