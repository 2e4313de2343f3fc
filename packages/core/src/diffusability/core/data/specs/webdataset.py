"""The spec of images in tar shards. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from diffusability.core.data.specs.image_view import ImageViewSpec
from diffusability.core.data.specs.shard_files import globbed, is_url, local_shards, shard_problem
from diffusability.core.errors import DataError
from diffusability.core.extras import require_package
from diffusability.core.specs.base import LocalPath, Written
from diffusability.core.specs.files.contents import FileSet

if TYPE_CHECKING:
    pass


def _extension(text: str) -> str:
    """An extension as members are split: without the leading dot, in lower case."""
    return text.strip().lower().removeprefix("*").removeprefix(".")


class WebDatasetSpec(ImageViewSpec):
    """Images in tar shards, as the library webdataset writes and reads them."""

    kind: Literal["webdataset"] = "webdataset"
    builds: ClassVar[str] = "diffusability.core.data.shards.webdataset_shards:WebDataset"
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
        require_package("webdataset", f"data of kind {self.kind!r}", "webdataset")
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
        file_sets = {}
        for name, patterns in (("shards", self.shards), ("validation_shards", self.validation_shards)):
            here = [pattern for pattern in patterns if not is_url(pattern)]
            try:
                paths = local_shards(here, None)
            except DataError:  # check_inputs says so
                continue
            if paths:
                file_sets[name] = FileSet(root=Path(), names=[str(path) for path in paths])
        return file_sets

    def unlabelled(self) -> str | None:
        return "label null" if self.label is None else None
