"""The spec of small labelled images in MNIST's format. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from diffusability.core.specs.components import DatasetSpec

if TYPE_CHECKING:
    pass

#: Beginnings of the file names of a split; images and labels follow as in MNIST.
PREFIXES: dict[str, str] = {"train": "train", "validation": "t10k"}


def idx_file(folder: Path, split: str, what: Literal["images", "labels"]) -> Path:
    """A file of a set in MNIST's layout, plain or compressed.

    Raises:
        ValueError: there is none.
    """
    name = f"{PREFIXES[split]}-{what}-idx{3 if what == 'images' else 1}-ubyte"
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise ValueError(f"{str(folder)!r} holds no {name}.gz; expected a set in MNIST's format")


class IdxImagesSpec(DatasetSpec):
    """Small labelled images in MNIST's idx format, such as Debian's dataset-fashion-mnist."""

    kind: Literal["idx-images"] = "idx-images"
    builds: ClassVar[str] = "diffusability.core.data.idx_images:IdxImages"
    path: Path = Field(
        Path("/usr/share/datasets/fashion-mnist"), description="folder with train-images-idx3-ubyte(.gz) and so on"
    )
    resolution: PositiveInt = Field(32, description="height and width; smaller images get a black border")
    channels: Literal[1, 3] = Field(3, description="3: the grey value is repeated")
    flip: bool = Field(False, description="mirror half of the training images")
    labels: bool = Field(True, description="give examples their class")

    def image_shape(self) -> tuple[int, ...]:
        return (self.channels, self.resolution, self.resolution)

    def check_inputs(self) -> None:
        for split in PREFIXES:
            idx_file(self.path, split, "images")
            if self.labels:
                idx_file(self.path, split, "labels")

    def unlabelled(self) -> str | None:
        return None if self.labels else "labels false"
