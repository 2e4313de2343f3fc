"""Images from a tree of files."""

import os
from pathlib import Path

import torch
from PIL import Image

from diffusability.core.data.image_files import Box, cropped, mirrored, read_rgb, uniform
from diffusability.core.data.specs import IMAGE_SUFFIXES, ImageFolderSpec
from diffusability.core.dataset import Dataset, Example
from diffusability.core.errors import DataError
from diffusability.core.seeds import derived_seed
from diffusability.core.specs.components import Split


def image_paths(root: Path) -> list[str]:
    """Image files below a folder, relative to it, sorted; hidden folders are left out."""
    found = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        found += [
            (relative / name).as_posix()
            for name in names
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)


class ImageFolder(Dataset):
    """Square crops of image files; an unreadable file is reported by name when it is asked for."""

    def __init__(self, spec: ImageFolderSpec, split: Split) -> None:
        self.spec = spec
        self.split = split
        self.max_unreadable_share = spec.max_unreadable_share
        self.root = spec.path if split == "train" else spec.validation_path or spec.path
        paths = image_paths(self.root)
        if spec.labels == "folder":
            self.class_names = self._class_names(image_paths(spec.path), spec.path)
            self.num_classes = len(self.class_names)
        if spec.validation_path is None:
            paths = [path for path in paths if self._is_validation(path) == (split == "validation")]
        if not paths:
            raise DataError(
                f"no {split} images in {str(self.root)!r}"
                + (f"; validation_share is {spec.validation_share}" if spec.validation_path is None else "")
            )
        self.paths = paths

    @staticmethod
    def _class_names(paths: list[str], root: Path) -> list[str]:
        loose = [path for path in paths if "/" not in path]
        if loose:
            raise DataError(f"labels: folder, but {loose[0]!r} lies in no class folder of {str(root)!r}")
        return sorted({path.split("/")[0] for path in paths})

    def _is_validation(self, path: str) -> bool:
        return derived_seed("validation", path) / 2**63 < self.spec.validation_share

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        path = self.paths[index]
        image = read_rgb(self.root / path)
        random = generator if self.split == "train" else None
        data = cropped(image, self._box(image, random), self.spec.resolution)
        if random is not None and self.spec.flip:
            data = mirrored(data, random)
        return Example(data=data, label=self._label(path))

    def _box(self, image: Image.Image, generator: torch.Generator | None) -> Box:
        """A square of the shorter side: at the centre, or anywhere along the longer side."""
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        if generator is not None and self.spec.crop == "random":
            share = uniform(generator)
            left, top = int(share * (width - side + 1)), int(share * (height - side + 1))
        return (left, top, left + side, top + side)

    def _label(self, path: str) -> int | None:
        if self.class_names is None:
            return None
        name = path.split("/", maxsplit=1)[0]
        if name not in self.class_names:
            raise DataError(
                f"class folder {name!r} of {str(self.root)!r} is not among those of {str(self.spec.path)!r}"
            )
        return self.class_names.index(name)
