"""Images from a tree of files."""

from pathlib import Path

import torch

from diffusability.core.contracts.dataset import Dataset, Example
from diffusability.core.data.folder_splits import FolderSplits
from diffusability.core.data.image_files import read_rgb
from diffusability.core.data.image_view import image_view
from diffusability.core.data.specs.image_folder import ImageFolderSpec
from diffusability.core.data.specs.image_suffixes import (
    HEIF_HINT,
    HEIF_SUFFIXES,
    OTHER_IMAGE_SUFFIXES,
    image_suffixes,
)
from diffusability.core.specs.components import Split
from diffusability.core.specs.files.file_tree import file_paths, label_of


def image_paths(root: Path) -> list[str]:
    """Image files below a folder, relative to it, sorted; hidden ones are left out."""
    return file_paths(root, image_suffixes())


def splits_of(spec: ImageFolderSpec) -> FolderSplits:
    """The image files of both splits."""
    return FolderSplits(
        path=spec.path,
        validation_path=spec.validation_path,
        validation_share=spec.validation_share,
        suffixes=image_suffixes(),
        known=OTHER_IMAGE_SUFFIXES - image_suffixes(),
        noun="images",
        hints=dict.fromkeys(HEIF_SUFFIXES, HEIF_HINT),
    )


class ImageFolder(Dataset):
    """Square crops of image files; an unreadable file is reported by name when it is asked for."""

    def __init__(self, spec: ImageFolderSpec, split: Split) -> None:
        self.spec = spec
        self.split = split
        self.max_unreadable_share = spec.max_unreadable_share
        splits = splits_of(spec)
        self.root, self.paths = splits.files(split)
        if spec.labels == "folder":
            self.class_names = splits.class_names(self.root, self.paths)
            self.num_classes = len(self.class_names)
        self.notes = splits.notes(self.class_names)

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
