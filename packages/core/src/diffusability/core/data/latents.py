"""Cached latents as a dataset."""

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusability.core.data.image_files import uniform
from diffusability.core.data.latent_cache import open_shard, read_index
from diffusability.core.dataset import Dataset, Example


class Latents(Dataset):
    """Raw latents, drawn from the cached posterior anew each time, of the image or of its mirror image."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.index = read_index(directory)
        self.num_classes = self.index.num_classes
        self.normalizer = self.index.normalizer()
        self._ends = list(accumulate(self.index.shard_sizes))
        self._shards: dict[int, Any] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape ``(c, *t, h, w)`` of one example."""
        return self.index.shape

    def __len__(self) -> int:
        return self.index.num_samples

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}  # memory maps are opened anew in each worker

    def _read(self, name: str, index: int) -> Tensor:
        shard = bisect_right(self._ends, index)
        row = index - (self._ends[shard] - self.index.shard_sizes[shard])
        if shard not in self._shards:
            self._shards[shard] = open_shard(self.directory, shard)
        value: Tensor = self._shards[shard].get_slice(name)[row : row + 1]
        return value[0]

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        suffix = "_flipped" if generator is not None and self.index.flips and uniform(generator) < 0.5 else ""
        data = self._read("mean" + suffix, index).float()
        if generator is not None and not self.index.deterministic:
            logvar = self._read("logvar" + suffix, index).float()
            data = data + torch.exp(0.5 * logvar) * torch.randn(data.shape, generator=generator)
        label = int(self._read("label", index)) if self.num_classes is not None else None
        return Example(data=data, label=label)
