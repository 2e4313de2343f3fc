"""Specs of the datasets of the core. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.data.specs.image_suffixes import HEIF_HINT, HEIF_SUFFIXES, IMAGE_SUFFIXES, image_suffixes
from diffusability.core.data.specs.image_view import ImageViewSpec
from diffusability.core.errors import DataError
from diffusability.core.specs.files.contents import FileSet
from diffusability.core.specs.files.file_tree import folder_files, holds_any

if TYPE_CHECKING:
    pass


def has_images(folder: Path) -> bool:
    """True when there is an image file anywhere below the folder; stops at the first.

    Raises:
        DataError: a folder in it cannot be listed.
    """
    return holds_any(folder, IMAGE_SUFFIXES) or holds_any(folder, image_suffixes())


class ImageFolderSpec(ImageViewSpec):
    """A tree of image files, with class folders if wanted."""

    kind: Literal["image-folder"] = "image-folder"
    builds: ClassVar[str] = "diffusability.core.data.image_folder:ImageFolder"
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
                holds_images = has_images(folder)
            except DataError as error:
                raise ValueError(f"{name}: {error}") from None
            if not holds_images:
                suffixes = ", ".join(sorted(image_suffixes()))
                hint = f"; {HEIF_HINT}" if holds_any(folder, HEIF_SUFFIXES) else ""
                raise ValueError(f"{name} {str(folder)!r} holds no images; expected files ending in {suffixes}{hint}")

    def files_read(self) -> dict[str, FileSet]:
        folders = {"path": self.path, "validation_path": self.validation_path}
        return folder_files(folders, image_suffixes(), self.labels == "folder")

    def unlabelled(self) -> str | None:
        return "labels 'none'" if self.labels == "none" else None
