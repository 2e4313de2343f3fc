"""Crops of the photographs inside the wheels of scikit-image and scikit-learn: real data without a download."""

import importlib.util
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from diffusability.core.contracts.dataset import Dataset, Example
from diffusability.core.data.image_files import Box, cropped, mirrored, read_rgb, uniform
from diffusability.core.data.specs.sample_photos import SamplePhotosSpec
from diffusability.core.errors import DataError
from diffusability.core.extras import require_extra
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.specs.components import Split

#: The colour photographs, by package. The right frame of the motorcycle's stereo pair is left out: it would show the
#: validation region of the left one.
PHOTOGRAPHS = {
    "skimage": (
        "data/astronaut.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/hubble_deep_field.jpg",
        "data/motorcycle_left.png",
        "data/rocket.jpg",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}

#: Share of each photograph's longer side, at its right or lower end, that only validation sees.
VALIDATION_SHARE = 0.3


@cache
def photographs() -> tuple[Image.Image, ...]:
    """The photographs, decoded.

    Raises:
        MissingPackageError: a package that ships them is not installed.
        DataError: it is another version, without one of the files.
    """
    require_extra("photographs", "data of kind 'sample-photos'")
    images = []
    for package, names in PHOTOGRAPHS.items():
        module_spec = importlib.util.find_spec(package)
        assert module_spec is not None
        folder = Path((module_spec.submodule_search_locations or [""])[0])
        for name in names:
            if not (folder / name).is_file():
                raise DataError(f"the installed package {package!r} ships no {name!r}; another version of it does")
            images.append(read_rgb(folder / name))
    return tuple(images)


def region(size: tuple[int, int], split: Split) -> Box:
    """The part (left, top, right, bottom) of a photograph of ``size`` (width, height) that belongs to a split."""
    width, height = size
    if width >= height:
        border = round(width * (1 - VALIDATION_SHARE))
        return (0, 0, border, height) if split == "train" else (border, 0, width, height)
    border = round(height * (1 - VALIDATION_SHARE))
    return (0, 0, width, border) if split == "train" else (0, border, width, height)


class SamplePhotos(Dataset):
    """Square crops, their side log-uniform between the resolution and the region's shorter side.

    The example of an index is always of the same photograph; without a generator it is one fixed crop of it. Crops of
    regions smaller than the resolution are enlarged.
    """

    def __init__(self, spec: SamplePhotosSpec, split: Split) -> None:
        self.spec = spec
        self.split = split
        self.images = photographs()

    def __len__(self) -> int:
        return self.spec.size if self.split == "train" else self.spec.validation_size

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        flips = generator is not None and self.spec.flip
        if generator is None:
            generator = torch.Generator().manual_seed(derived_seed("sample-photos", self.split, index))
        image = self.images[index % len(self.images)]
        left, top, right, bottom = region(image.size, self.split)
        largest = min(right - left, bottom - top)
        smallest = min(self.spec.resolution, largest)
        side = smallest * (largest / smallest) ** uniform(generator)
        x, y = uniform(generator, left, right - side), uniform(generator, top, bottom - side)
        data = cropped(image, (x, y, min(x + side, right), min(y + side, bottom)), self.spec.resolution)
        return Example(data=mirrored(data, generator) if flips else data)
