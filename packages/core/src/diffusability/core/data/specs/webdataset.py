"""The spec of images in tar shards. Free of torch."""

import re
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from diffusability.core.data.specs.image_view import ImageViewSpec
from diffusability.core.data.specs.missing_extra import require
from diffusability.core.errors import DataError
from diffusability.core.reading import compression_of, lfs_problem
from diffusability.core.specs.base import LocalPath, Written
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import Split
from diffusability.core.specs.contents import FileSet

if TYPE_CHECKING:
    from diffusability.core.contracts.dataset import Dataset


def is_url(shard: str) -> bool:
    """True for what is not a path on this machine: ``https:``, ``s3:``, ``pipe:`` and the like."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", shard) is not None and not shard.startswith("file:")


def globbed(shard: str) -> list[Path]:
    """The files that a pattern with ``*``, ``?`` or ``[...]`` stands for, sorted by name."""
    return [Path(name) for name in sorted(glob(shard.removeprefix("file:"), recursive=True))]


def shard_problem(path: Path) -> str | None:
    """Why a file cannot be a shard, by its first bytes: a pointer of Git LFS, or compressed as a whole; else None."""
    pointer = lfs_problem(path)
    if pointer is not None:
        return pointer
    compression = compression_of(path)
    if compression is None:
        return None
    return (
        f"it is compressed with {compression}, so that its members cannot be read in any order; unpack it once"
        f" (gunzip and the like) and name the .tar"
    )


def _extension(text: str) -> str:
    """An extension as members are split: without the leading dot, in lower case."""
    return text.strip().lower().removeprefix("*").removeprefix(".")


class WebDatasetSpec(ImageViewSpec):
    """Images in tar shards, as the library webdataset writes and reads them."""

    kind: Literal["webdataset"] = "webdataset"
    shards: Annotated[tuple[str, ...], LocalPath()] = Field(
        min_length=1, description="paths or URLs of tar files; braces and * count, as in train-{000000..001023}.tar"
    )
    validation_shards: Annotated[tuple[str, ...], LocalPath()] = Field(
        (), description="shards of their own for validation"
    )
    validation_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="without validation_shards: the share of examples kept out of training, by key; 1: all of them",
    )
    images: tuple[str, ...] = Field(("jpg", "jpeg", "png", "webp"), description="extensions of the image members")
    label: str | None = Field(None, description="extension of the member that holds the class as a number, such as cls")
    num_classes: PositiveInt | None = Field(None, description="default: the largest label plus one")
    download_to: Annotated[Path | None, Written()] = Field(None, description="folder for shards that are given as URLs")

    @field_validator("shards", "validation_shards", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("label", mode="after")
    @classmethod
    def _as_split(cls, value: str | None) -> str | None:
        return value if value is None else _extension(value)

    @field_validator("images", mode="after")
    @classmethod
    def _all_as_split(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_extension, values))

    def check_inputs(self) -> None:
        require("webdataset", self.kind, "webdataset")
        for shard in (*self.shards, *self.validation_shards):
            if is_url(shard):
                if self.download_to is None:
                    raise ValueError(f"shard {shard!r} is a URL; give 'download_to', a folder with room for the shards")
                continue
            files = [Path(shard.removeprefix("file:"))] if "{" not in shard else []
            if files and "*" in shard and not files[0].is_file():
                files = globbed(shard)
                if not files:
                    raise ValueError(f"no shard matches {shard!r}; expected tar files")
            for file in files:
                if not file.is_file():
                    raise ValueError(f"shard {shard!r} does not exist; expected a tar file")
                problem = shard_problem(file)
                if problem is not None:
                    raise ValueError(f"shard {str(file)!r} cannot be used: {problem}")

    def files_read(self) -> dict[str, FileSet]:
        from diffusability.core.data.shards.shard_download import local_shards

        found = {}
        for name, patterns in (("shards", self.shards), ("validation_shards", self.validation_shards)):
            here = [pattern for pattern in patterns if not is_url(pattern)]
            try:
                paths = local_shards(here, None)
            except DataError:  # check_inputs says so
                continue
            if paths:
                found[name] = FileSet(root=Path(), names=[str(path) for path in paths])
        return found

    def unlabelled(self) -> str | None:
        return "label null" if self.label is None else None

    def build(self, context: BuildContext, split: Split) -> "Dataset":
        from diffusability.core.data.shards.webdataset_shards import WebDataset

        return WebDataset(self, split)
