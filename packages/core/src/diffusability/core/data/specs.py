"""Specs of the datasets of the core. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from diffusability.core.build import BuildContext
from diffusability.core.data.file_tree import folder_files, holds_any
from diffusability.core.data.image_suffixes import IMAGE_SUFFIXES, image_suffixes
from diffusability.core.data.image_view_spec import ImageViewSpec
from diffusability.core.errors import DataError
from diffusability.core.specs.components import DatasetSpec, Split
from diffusability.core.specs.contents import FileSet

if TYPE_CHECKING:
    from diffusability.core.dataset import Dataset


def has_images(folder: Path) -> bool:
    """True when there is an image file anywhere below the folder; stops at the first.

    Raises:
        DataError: a folder in it cannot be listed.
    """
    return holds_any(folder, IMAGE_SUFFIXES) or holds_any(folder, image_suffixes())


class SamplePhotosSpec(DatasetSpec):
    """Random crops at many scales of the colour photographs that scikit-image and scikit-learn ship."""

    kind: Literal["sample-photos"] = "sample-photos"
    resolution: PositiveInt = Field(64, description="height and width in pixels", le=256)
    flip: bool = Field(True, description="mirror half of the training crops")
    size: PositiveInt = Field(8192, description="crops that count as one epoch of training")
    validation_size: PositiveInt = Field(1024, description="fixed crops of the validation regions")

    def image_shape(self) -> tuple[int, ...]:
        return (3, self.resolution, self.resolution)

    def unlabelled(self) -> str | None:
        return f"no labels (kind {self.kind!r})"

    def num_examples(self, split: Split) -> int:
        return self.size if split == "train" else self.validation_size

    def build(self, context: BuildContext, split: Split) -> "Dataset":
        from diffusability.core.data.sample_photos import SamplePhotos

        return SamplePhotos(self, split)


class ImageFolderSpec(ImageViewSpec):
    """A tree of image files, with class folders if wanted."""

    kind: Literal["image-folder"] = "image-folder"
    path: Path = Field(description="folder with images, at any depth")
    labels: Literal["none", "folder"] = Field("none", description="folder: the first folder below `path` is the class")
    validation_path: Path | None = Field(None, description="a folder of its own for validation")
    validation_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="without validation_path: the share of files kept out of training, by name; 1: all are validation",
    )

    def check_inputs(self) -> None:
        for name, folder in (("path", self.path), ("validation_path", self.validation_path)):
            if folder is None:
                continue
            if not folder.is_dir():
                what = "is a file" if folder.is_file() else "does not exist"
                raise ValueError(f"{name} {str(folder)!r} {what}; expected a folder with images")
            try:
                found = has_images(folder)
            except DataError as error:
                raise ValueError(f"{name}: {error}") from None
            if not found:
                suffixes = ", ".join(sorted(image_suffixes()))
                raise ValueError(f"{name} {str(folder)!r} holds no images; expected files ending in {suffixes}")

    def files_read(self) -> dict[str, FileSet]:
        folders = {"path": self.path, "validation_path": self.validation_path}
        return folder_files(folders, image_suffixes(), self.labels == "folder")

    def unlabelled(self) -> str | None:
        return "labels 'none'" if self.labels == "none" else None

    def build(self, context: BuildContext, split: Split) -> "Dataset":
        from diffusability.core.data.image_folder import ImageFolder

        return ImageFolder(self, split)
