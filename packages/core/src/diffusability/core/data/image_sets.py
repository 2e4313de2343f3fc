"""Sets of finished images: the files of a folder, or the array of an npz file as ADM writes them."""

import zipfile
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from diffusability.core.contracts.dataset import Dataset, Example, UnreadableExample
from diffusability.core.data.image_files import crop_box, cropped, read_rgb, to_tensor
from diffusability.core.data.specs.image_suffixes import image_suffixes
from diffusability.core.errors import DataError
from diffusability.core.reading import reading
from diffusability.core.specs.files.file_tree import file_paths

#: The name under which ADM's sample and reference files hold images, bytes of shape ``n h w c``.
IMAGES_NAME = "arr_0"


class ImageSet(Dataset):
    """Images as they are, in the order of their names; with ``resolution``, the centre square of each at that side.

    Attributes:
        source: the folder or file.
        resolution: side in pixels; None: no image is resized, and all have the size of the first one.
        size: height and width that all of them have.
    """

    def __init__(self, source: Path, resolution: int | None) -> None:
        self.source = source
        self.resolution = resolution
        first = self.picture(0)
        self.size = (resolution, resolution) if resolution else (first.height, first.width)

    @abstractmethod
    def picture(self, index: int) -> Image.Image:
        """One image in 8-bit RGB. Raises UnreadableExample."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What messages call an image."""

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        """One image.

        Raises:
            UnreadableExample: its file cannot be read, or it is of another size than the first one.
        """
        picture = self.picture(index)
        if self.resolution is not None:
            return Example(data=cropped(picture, crop_box(picture.size, 1.0, None), self.resolution))
        if (picture.height, picture.width) != self.size:
            raise UnreadableExample(
                f"{self.name(index)}: {picture.height}x{picture.width} pixels, where the first one has"
                f" {self.size[0]}x{self.size[1]}; give a resolution to have all cropped and resized"
            )
        return Example(data=to_tensor(picture))


class ImageFiles(ImageSet):
    """The image files below a folder."""

    def __init__(self, source: Path, resolution: int | None) -> None:
        self.paths = file_paths(source, image_suffixes())
        if not self.paths:
            suffixes = ", ".join(sorted(image_suffixes()))
            raise DataError(f"{str(source)!r} holds no images; expected files ending in {suffixes}")
        super().__init__(source, resolution)

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, index: int) -> Image.Image:
        return read_rgb(self.source / self.paths[index])

    def name(self, index: int) -> str:
        return self.paths[index]


class ImageArray(ImageSet):
    """The images of an npz file, which is mapped into memory where it is not compressed."""

    def __init__(self, source: Path, resolution: int | None) -> None:
        self.array = _array_of(source)
        super().__init__(source, resolution)

    def __len__(self) -> int:
        return len(self.array)

    def picture(self, index: int) -> Image.Image:
        pixels = self.array[index]
        return Image.fromarray(np.repeat(pixels, 3, -1) if pixels.shape[-1] == 1 else np.ascontiguousarray(pixels))

    def name(self, index: int) -> str:
        return f"image {index}"


def open_image_set(source: Path, resolution: int | None = None) -> ImageSet:
    """The images of a folder, or of an npz file.

    Raises:
        DataError: there are none, or the file holds something else.
    """
    if not source.exists():
        raise DataError(f"{str(source)!r} does not exist; expected a folder of images, or an npz file")
    try:
        return ImageFiles(source, resolution) if source.is_dir() else ImageArray(source, resolution)
    except UnreadableExample as error:
        raise DataError(str(error)) from None


def names_in(source: Path) -> list[str]:
    """Names of the arrays in an npz file. Raises DataError when it is none."""
    with reading("npz file", source), zipfile.ZipFile(source) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _array_of(source: Path) -> UInt8[np.ndarray, "n h w c"]:
    if IMAGES_NAME not in names_in(source):
        held = ", ".join(map(repr, names_in(source)))
        raise DataError(f"{str(source)!r} holds {held}; expected images under {IMAGES_NAME!r}, as in ADM's files")
    with reading("npz file", source):
        array: Any = _mapped(source, f"{IMAGES_NAME}.npy")
        if array is None:
            with np.load(source, allow_pickle=False) as content:
                array = content[IMAGES_NAME]
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3) or not len(array):
        raise DataError(
            f"{str(source)!r} holds {IMAGES_NAME!r} of {array.dtype} and shape {array.shape!r}; expected bytes of shape"
            " (n, height, width, 1 or 3)"
        )
    images: UInt8[np.ndarray, "n h w c"] = array
    return images


def _mapped(source: Path, member: str) -> "np.memmap[tuple[int, ...], np.dtype[np.uint8]] | None":
    """An array of an npz file without reading it; None where the file is compressed."""
    with zipfile.ZipFile(source) as archive:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        with archive.open(member) as stored:
            version = np.lib.format.read_magic(stored)
            versions = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in versions:
                return None
            shape, fortran, dtype = versions[version](stored)
            header = stored.tell()
    if fortran or dtype.hasobject:
        return None
    with source.open("rb") as file:
        file.seek(info.header_offset + 26)  # lengths of the name and of the extra field, before the content
        name, extra = np.frombuffer(file.read(4), dtype="<u2").tolist()
    offset = info.header_offset + 30 + name + extra + header
    return np.memmap(source, dtype=dtype, mode="r", offset=offset, shape=shape)
