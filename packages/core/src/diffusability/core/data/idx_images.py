"""Small labelled images in MNIST's idx format, held in memory."""

import gzip
import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffusability.core.contracts.dataset import Dataset, Example
from diffusability.core.data.image_files import mirrored
from diffusability.core.data.overlap import Part, refuse_overlap
from diffusability.core.data.specs.idx_images import IdxImagesSpec, idx_file
from diffusability.core.errors import DataError
from diffusability.core.reading import lfs_problem, reading
from diffusability.core.specs.components import Split


def read_idx(path: Path) -> np.ndarray:
    """An array of bytes in idx format: 0, 0, 8 (unsigned bytes), number of axes, each length as 32 bits, the values.

    Raises:
        DataError: it is cut short, not compressed rightly, or of another format.
    """
    with reading("idx file", path):
        if lfs_problem(path) is not None:
            raise DataError(f"idx file {str(path)!r} cannot be read: {lfs_problem(path)}")
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{str(path)!r} is not an idx file of bytes: it begins with {content[:4]!r}")
    num_axes = content[3]
    header = content[4 : 4 + 4 * num_axes]
    shape = tuple(int.from_bytes(header[first : first + 4], "big") for first in range(0, len(header), 4))
    complete = len(header) == 4 * num_axes
    values = np.frombuffer(content[4 + 4 * num_axes :], np.uint8)
    if not complete or len(values) != math.prod(shape):
        raise DataError(f"{str(path)!r} is cut short: shape {shape}, and {len(values)} values follow")
    return values.reshape(shape)


def _refuse_overlap(spec: IdxImagesSpec) -> list[str]:
    """Compares the images of both splits. Raises DataError when they overlap; see ``overlap.refuse_overlap``."""
    try:
        files = [idx_file(spec.path, split, "images") for split in ("train", "validation")]
    except ValueError:  # one split alone
        return []
    parts = []
    for file in files:
        images = read_idx(file)
        size = math.prod(images.shape[1:])
        sizes = np.full(len(images), size, dtype=np.int64)
        parts.append(Part(names=None, sizes=sizes, read=partial(_image_bytes, images), identities=()))
    train, validation = parts
    return refuse_overlap(train, validation, f"images of {str(spec.path)!r}")


def _image_bytes(images: np.ndarray, place: int) -> bytes:
    return bytes(images[place].tobytes())


class IdxImages(Dataset):
    """Grey images in [-1, 1], put into the middle of a dark square or, if too large for it, reduced.

    Raises:
        DataError: a file cannot be read, or images and labels differ in number.
    """

    def __init__(self, spec: IdxImagesSpec, split: Split) -> None:
        self.spec = spec
        self.split = split
        self.images = read_idx(idx_file(spec.path, split, "images"))
        if self.images.ndim != 3:
            raise DataError(f"images of {str(spec.path)!r} have shape {self.images.shape}; expected n, height, width")
        self.notes = _refuse_overlap(spec)
        self.labels: np.ndarray | None = None
        if spec.labels:
            self.labels = read_idx(idx_file(spec.path, split, "labels"))
            if self.labels.shape != self.images.shape[:1]:
                raise DataError(
                    f"{str(spec.path)!r} has {len(self.images)} {split} images and labels of shape {self.labels.shape}"
                )
            self.num_classes = 1 + int(read_idx(idx_file(spec.path, "train", "labels")).max())

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        pixels, side = self.images[index], self.spec.resolution
        if max(pixels.shape) > side:
            pixels = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
        square = np.zeros((side, side), dtype=np.uint8)
        top, left = (side - pixels.shape[0]) // 2, (side - pixels.shape[1]) // 2
        square[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        data = torch.from_numpy(square).float().div(127.5).sub(1).repeat(self.spec.channels, 1, 1)
        if generator is not None and self.spec.flip and self.split == "train":
            data = mirrored(data, generator)
        return Example(data=data, label=None if self.labels is None else int(self.labels[index]))
