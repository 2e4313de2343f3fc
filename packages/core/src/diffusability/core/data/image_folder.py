"""Images from a tree of files."""

from pathlib import Path

import torch

from diffusability.core.data.file_tree import class_names_of, file_paths, is_validation, label_of
from diffusability.core.data.image_files import read_rgb
from diffusability.core.data.image_view import image_view
from diffusability.core.data.specs import IMAGE_SUFFIXES, ImageFolderSpec
from diffusability.core.dataset import Dataset, Example
from diffusability.core.errors import DataError
from diffusability.core.specs.components import Split


def image_paths(root: Path) -> list[str]:
    """Image files below a folder, relative to it, sorted; hidden ones are left out."""
    return file_paths(root, IMAGE_SUFFIXES)


class ImageFolder(Dataset):
    """Square crops of image files; an unreadable file is reported by name when it is asked for."""

    def __init__(self, spec: ImageFolderSpec, split: Split) -> None:
        self.spec = spec
        self.split = split
        self.max_unreadable_share = spec.max_unreadable_share
        self.root = spec.path if split == "train" else spec.validation_path or spec.path
        paths = image_paths(self.root)
        if spec.labels == "folder":
            self.class_names = class_names_of(image_paths(spec.path), spec.path)
            self.num_classes = len(self.class_names)
        if spec.validation_path is None:
            paths = [path for path in paths if is_validation(path, spec.validation_share) == (split == "validation")]
        if not paths:
            raise DataError(
                f"no {split} images in {str(self.root)!r}"
                + (f"; validation_share is {spec.validation_share}" if spec.validation_path is None else "")
            )
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        path = self.paths[index]
        image = read_rgb(self.root / path)
        random = generator if self.split == "train" else None
        return Example(data=image_view(image, self.spec, random, path), label=self._label(path))

    def _label(self, path: str) -> int | None:
        if self.class_names is None:
            return None
        return label_of(path, self.class_names, self.root)
