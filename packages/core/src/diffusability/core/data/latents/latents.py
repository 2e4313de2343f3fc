"""Cached latents as a dataset."""

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.contracts.dataset import Dataset, Example
from diffusability.core.data.image_files import uniform
from diffusability.core.data.latents.latent_cache import open_shard, read_index
from diffusability.core.data.latents.latent_origin import autoencoder_origin, data_origin, refuse_other
from diffusability.core.data.latents.shard_reader import ShardReader
from diffusability.core.data.specs.latents import LatentsSpec
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import Split


class Latents(Dataset):
    """Raw latents, drawn from the cached posterior again each time, of the image or of its mirror image.

    Raises:
        DataError: there is no cache, or validation is asked of one that was encoded from training images.
    """

    def __init__(self, directory: Path, split: Split = "train") -> None:
        self.directory = directory
        self.index = read_index(directory)
        encoded = self.index.provenance.get("split", "train")
        if split == "validation" and encoded != "validation":
            raise DataError(
                f"latent cache {str(directory)!r} was encoded from split {encoded!r}, so it holds no validation;"
                " expected an encode stage with 'split: validation'"
            )
        self.num_classes = self.index.num_classes
        self.normalizer = self.index.normalizer(directory)
        self._ends = list(accumulate(self.index.shard_sizes))
        self._shards: dict[int, ShardReader] = {}

    @classmethod
    def from_spec(cls, spec: LatentsSpec, context: BuildContext, split: Split) -> "Latents":
        """Opens the cache of a stage, or one from elsewhere once it is known to be made as the spec says."""
        if spec.path is None:
            assert spec.stage is not None
            return cls(context.stage_directory(spec.stage) / "latents", split)
        dataset = cls(spec.path, split)
        check_origin(spec, dataset, context)
        return dataset

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape ``(c, *t, h, w)`` of one example."""
        return self.index.shape

    def __len__(self) -> int:
        return self.index.num_samples

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}  # files are opened again in each worker

    def _read(self, name: str, index: int) -> Tensor:
        shard = bisect_right(self._ends, index)
        row = index - (self._ends[shard] - self.index.shard_sizes[shard])
        if shard not in self._shards:
            self._shards[shard] = open_shard(self.directory, shard)
        return self._shards[shard].row(name, row)

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        suffix = "_flipped" if generator is not None and self.index.flips and uniform(generator) < 0.5 else ""
        data = self._read("mean" + suffix, index).float()
        if generator is not None and not self.index.deterministic:
            logvar = self._read("logvar" + suffix, index).float()
            data = data + torch.exp(0.5 * logvar) * torch.randn(data.shape, generator=generator)
        label = int(self._read("label", index)) if self.num_classes is not None else None
        return Example(data=data, label=label)


def check_origin(spec: LatentsSpec, dataset: Latents, context: BuildContext) -> None:
    """Compares a cache from elsewhere with what its spec says that it must be made of.

    Raises:
        DataError: it was made with another autoencoder, or of other images; names both.
    """
    where = f"latent cache {str(dataset.directory)!r}"
    provenance = dataset.index.provenance
    if spec.autoencoder is not None:
        wanted = autoencoder_origin(build_autoencoder(spec.autoencoder, context), spec.autoencoder.kind)
        refuse_other(where, provenance.get("autoencoder"), wanted, "name the autoencoder that made it, or encode again")
    if spec.images is not None:
        wanted = data_origin(spec.images, provenance.get("split", "train"))
        refuse_other(where, provenance.get("data"), wanted, "encode these images again")
