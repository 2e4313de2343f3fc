"""Images in tar shards, any of them at once: by an index of offsets, so that order and resume are exact."""

import os
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusability.core.contracts.dataset import Dataset, Example, UnreadableExample
from diffusability.core.data.image_files import read_rgb
from diffusability.core.data.image_view import image_view
from diffusability.core.data.overlap import Part, refuse_overlap
from diffusability.core.data.shards.tar_index import TarIndex, split_key, tar_index
from diffusability.core.data.specs.shard_files import local_shards
from diffusability.core.data.specs.webdataset import WebDatasetSpec
from diffusability.core.errors import DataError
from diffusability.core.specs.components import Split
from diffusability.core.specs.files.file_tree import real_file

_OPEN_FILES = 64
_HEADER_BYTES = 512


def _part(shards: Sequence[tuple[Path, TarIndex]]) -> Part:
    """The examples of some shards, for comparison."""
    names, identities, places = list[str](), list[Hashable | None](), list[tuple[Path, int, int]]()
    for path, index in shards:
        file = real_file(path)
        for offset, size in zip(index.offset.tolist(), index.size.tolist(), strict=True):
            identities.append(None if offset < 0 or file is None else (file, offset))
            names.append(f"example {len(names)} ({str(path)!r})")
            places.append((path, offset, size))

    def read(place: int) -> bytes:
        path, offset, size = places[place]
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    sizes = np.array([size if offset >= 0 else 0 for _, offset, size in places], dtype=np.int64)
    return Part(names=names, sizes=sizes, read=read, identities=identities)


class WebDataset(Dataset):
    """The examples of all shards, in the order of the shards and of their members.

    A shard that is damaged counts as one more example, which cannot be read and says what is wrong.

    Raises:
        DataError: a shard is missing or not a tar file, there are no examples, or a label is missing.
    """

    def __init__(self, spec: WebDatasetSpec, split: Split) -> None:
        self.spec = spec
        self.split = split
        self.max_unreadable_share = spec.max_unreadable_share
        own = split == "validation" and bool(spec.validation_shards)
        train = self._indexed(spec.shards)
        chosen = self._indexed(spec.validation_shards) if own else train
        if spec.validation_shards:
            where = f"shards {list(spec.shards)} and validation_shards {list(spec.validation_shards)}"
            validation = chosen if own else self._indexed(spec.validation_shards)
            self.notes = refuse_overlap(_part(train), _part(validation), where)
        self.paths = [path for path, _ in chosen]
        images = [index.offset for _, index in chosen if len(index.offset)]
        if images and max(int(offset.max()) for offset in images) < 0:
            raise DataError(self._without_images([index for _, index in chosen]))
        parts = [self._rows(number, index) for number, (_, index) in enumerate(chosen)]
        rows = np.concatenate(parts)
        if not spec.validation_shards:
            is_validation = rows[:, 4].view(np.float64) < spec.validation_share
            rows = rows[is_validation == (split == "validation")]
        self.rows = rows[:, :4]  # shard, offset, size, label
        self.problems = [index.problem for _, index in chosen]
        self.strangers = [index.strangers for _, index in chosen]
        if not len(self.rows):
            raise DataError(f"no {split} examples in {len(self.paths)} shards such as {str(self.paths[0])!r}")
        if spec.label is not None:
            self.num_classes = spec.num_classes or 1 + max(int(index.label.max(initial=-1)) for _, index in train)
        self._files: OrderedDict[int, int] = OrderedDict()

    def _indexed(self, shards: tuple[str, ...]) -> list[tuple[Path, TarIndex]]:
        images = tuple(extension.lower() for extension in self.spec.images)
        paths = local_shards(shards, self.spec.download_to)
        return [(path, tar_index(path, images, self.spec.label)) for path in paths]

    def _without_images(self, indices: list[TarIndex]) -> str:
        """Says how members are named when none is an image, and how those names are split."""
        wanted = ", ".join(self.spec.images)
        names = next((index.strangers for index in indices if index.strangers), "nothing else")
        text = f"no member of {str(self.paths[0])!r} is an image; expected extensions {wanted}, found {names}"
        first = names.split("', '")[0].strip("'")
        key, extension = split_key(first)
        if "." in extension:
            text += (
                f"; a member is split at the first dot of its name, so {first!r} has the key {key!r} and the extension"
                f" {extension!r}: rename the members, or list that extension under 'images'"
            )
        return text

    @staticmethod
    def _rows(number: int, index: TarIndex) -> np.ndarray:
        columns = [
            np.full_like(index.offset, number),
            index.offset,
            index.size,
            index.label,
            index.place.view(np.int64),
        ]
        rows = np.stack(columns, axis=1)
        if index.problem:  # lies in training, by a place of 1 (just below it)
            place = np.array([np.nextafter(1.0, 0.0)]).view(np.int64)[0]
            rows = np.concatenate([rows, [[number, -2, 0, -1, place]]])
        return rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}  # files are opened again in each worker

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        shard, offset, size, label = map(int, self.rows[index])
        name = f"{self.paths[shard]}"
        if offset == -2:
            raise UnreadableExample(f"{name}: {self.problems[shard]}")
        if offset == -1:
            wanted = ", ".join(self.spec.images)
            seen = self.strangers[shard]
            other_members = f"; other members are {seen}" if seen else ""
            raise UnreadableExample(
                f"{name}: example {index} has no image; expected a member ending in {wanted}{other_members}"
            )
        if self.spec.label is not None and not 0 <= label < (self.num_classes or 0):
            given = "no label" if label < 0 else f"label {label}"
            member = self._member_name(shard, offset)
            raise UnreadableExample(f"{name}: {member!r} has {given}; there are {self.num_classes} classes")
        content = os.pread(self._file(shard), size, offset)
        member = f"{name}: {self._member_name(shard, offset)}"
        image = read_rgb(content, member)
        random = generator if self.split == "train" else None
        data = image_view(image, self.spec, random, member)
        return Example(data=data, label=label if self.spec.label is not None else None)

    def _member_name(self, shard: int, offset: int) -> str:
        header = os.pread(self._file(shard), _HEADER_BYTES, offset - _HEADER_BYTES)
        return header[:100].rstrip(b"\0").decode(errors="replace")

    def _file(self, shard: int) -> int:
        """A file descriptor of the shard; the longest unused of many is closed."""
        if shard not in self._files:
            if len(self._files) == _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            try:
                self._files[shard] = os.open(self.paths[shard], os.O_RDONLY)
            except OSError as error:
                raise UnreadableExample(f"{self.paths[shard]}: {error}") from error
        self._files.move_to_end(shard)
        return self._files[shard]
