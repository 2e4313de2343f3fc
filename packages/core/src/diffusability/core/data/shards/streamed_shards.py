"""Random access to the rows of a stream, one shard at a time."""

import hashlib
import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from diffusability.core.reading import parsed_json, user_cache
from diffusability.core.writing import replacing

_SHARDS_IN_MEMORY = 2


class StreamedShards:
    """The rows of an ``IterableDataset`` by number; the shard that holds a row is read whole and kept.

    That is what makes resuming exact to the example at the price of reading the current shard again. Its memory is that
    of two shards of encoded images in every loading process.

    Attributes:
        sizes: rows of each shard.
        num_rows: their sum.
    """

    def __init__(self, stream: Any, light_column: str, identity: Sequence[Hashable]) -> None:
        self.stream = stream
        self.num_shards = int(stream.num_shards)
        self.sizes = self._counted(light_column, identity)
        self.ends = list(accumulate(self.sizes))
        self.num_rows = sum(self.sizes)
        self._read: OrderedDict[int, list[Mapping[str, Any]]] = OrderedDict()

    def _counted(self, column: str, identity: Sequence[Hashable]) -> list[int]:
        """Rows of each shard, counted by reading one column; remembered in the user's cache folder."""
        name = hashlib.sha256(repr((*identity, self.num_shards, self._fingerprint())).encode()).hexdigest()[:32]
        cache = user_cache("stream-index")
        path = None if cache is None else cache / f"{name}.json"
        sizes = _read_sizes(path, self.num_shards)
        if sizes is None:
            light = self.stream.select_columns([column])
            sizes = [sum(1 for _ in light.shard(self.num_shards, number)) for number in range(self.num_shards)]
            if path is None:
                return sizes
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path, shared=True) as partial:
                    partial.write_text(json.dumps(sizes, allow_nan=False))
            except OSError:
                pass  # the cache only saves time
        return sizes

    def _fingerprint(self) -> str:
        """What tells a changed set from the one that was counted: names, and sizes of local files."""
        checksums = getattr(self.stream.info, "download_checksums", None)
        return json.dumps(checksums, sort_keys=True, default=str, allow_nan=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_read": OrderedDict()}

    def row(self, number: int) -> Mapping[str, Any]:
        """A row of the stream, counted from 0 over all shards."""
        shard = bisect_right(self.ends, number)
        if shard not in self._read:
            if len(self._read) == _SHARDS_IN_MEMORY:
                self._read.popitem(last=False)
            self._read[shard] = list(self.stream.shard(self.num_shards, shard))
        self._read.move_to_end(shard)
        return self._read[shard][number - (self.ends[shard] - self.sizes[shard])]

    def order(self, rows: Sequence[int], generator: torch.Generator) -> Int[Tensor, " n"]:
        """Places in ``rows`` (ascending), shard by shard: shards in random order, and the rows of each too."""
        shard_of = torch.bucketize(torch.tensor(rows), torch.tensor(self.ends), right=True)
        rank_of_shard = torch.randperm(self.num_shards, generator=generator)
        shuffled = torch.randperm(len(rows), generator=generator)
        return shuffled[torch.argsort(rank_of_shard[shard_of[shuffled]], stable=True)]


def _read_sizes(path: Path | None, num_shards: int) -> list[int] | None:
    """Counts that were kept; None when there are none, or they are damaged: they are then counted again."""
    if path is None:
        return None
    try:
        sizes = parsed_json(path.read_text())
    except (OSError, ValueError):
        return None
    whole = (
        isinstance(sizes, list) and len(sizes) == num_shards and all(type(size) is int and size >= 0 for size in sizes)
    )
    return sizes if whole else None
