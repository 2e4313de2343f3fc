"""The two splits of a tree of files: by a folder of its own for validation, or by the names of the files."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import attrs
import numpy as np

from diffusability.core.data.overlap import Part, refuse_overlap
from diffusability.core.errors import DataError
from diffusability.core.specs.components import Split
from diffusability.core.specs.files.file_tree import (
    FileTree,
    class_names_of,
    empty_classes,
    is_validation,
    label_of,
    read_tree,
    real_file,
)


@attrs.frozen(kw_only=True, eq=False, slots=False)
class FolderSplits:
    """The files of both splits.

    Attributes:
        path: the top folder.
        validation_path: a folder of its own for validation, or None.
        validation_share: without one, the share of files kept out of training.
        suffixes: suffixes of the files that are read.
        known: suffixes of files that are counted.
        noun: what the files are: images or videos.
        hints: how files of a suffix that is not read can be read.
    """

    path: Path
    validation_path: Path | None
    validation_share: float
    suffixes: Collection[str]
    known: Collection[str]
    noun: str
    hints: Mapping[str, str] = attrs.field(factory=dict)

    @cached_property
    def tree(self) -> FileTree:
        """What is below ``path``."""
        return read_tree(self.path, self.suffixes, self.known)

    @cached_property
    def validation_tree(self) -> FileTree:
        """What is below the folder of validation."""
        assert self.validation_path is not None
        return read_tree(self.validation_path, self.suffixes, self.known)

    def files(self, split: Split) -> tuple[Path, list[str]]:
        """The folder of a split and its files, sorted.

        Raises:
            DataError: there are none, a folder cannot be listed, or a file is in both splits.
        """
        if self.validation_path is None:
            share = self.validation_share
            root, paths = self.path, self.tree.paths
            paths = [path for path in paths if is_validation(path, share) == (split == "validation")]
        else:
            self.copies  # noqa: B018 - raises where the splits overlap
            root = self.path if split == "train" else self.validation_path
            paths = self.tree.paths if split == "train" else self.validation_tree.paths
        if not paths:
            raise DataError(
                f"no {split} {self.noun} in {str(root)!r}"
                + (f"; validation_share is {self.validation_share}" if self.validation_path is None else "")
            )
        return root, paths

    def class_names(self, root: Path, paths: list[str]) -> list[str]:
        """The classes: the folders right below ``path``, those without files too.

        Raises:
            DataError: a file is in no class folder, or one of ``paths`` in a folder that is not a class.
        """
        names = class_names_of(self.tree.paths, self.path, self.tree.folders)
        if root != self.path:
            loose = [path for path in paths if "/" not in path]
            if loose:
                raise DataError(f"labels: folder, but {loose[0]!r} lies in no class folder of {str(root)!r}")
            for path in {path.split("/", maxsplit=1)[0]: path for path in paths}.values():
                label_of(path, names, root)
        return names

    def notes(self, class_names: Sequence[str] | None) -> list[str]:
        """Sentences about what was left out or is unusual."""
        notes = self.tree.notes(self.path, self.noun, self.hints)
        if class_names is not None:
            notes += empty_classes(self.tree.paths, class_names, self.path, self.noun)
        if self.validation_path is not None:
            notes += [*self.validation_tree.notes(self.validation_path, self.noun, self.hints), *self.copies]
        return notes

    @cached_property
    def copies(self) -> list[str]:
        """A sentence about validation files that are copies of training files. Raises DataError for an overlap."""
        assert self.validation_path is not None
        train = _part(self.path, self.tree.paths)
        validation = _part(self.validation_path, self.validation_tree.paths)
        where = f"path {str(self.path)!r} and validation_path {str(self.validation_path)!r}"
        return refuse_overlap(train, validation, where)


def _part(root: Path, paths: list[str]) -> Part:
    def read(place: int) -> bytes:
        try:
            return (root / paths[place]).read_bytes()
        except OSError:
            return b""

    identities, sizes = [], []
    for path in paths:
        identities.append(real_file(root / path))
        sizes.append((root / path).stat().st_size if identities[-1] is not None else 0)
    return Part(names=paths, sizes=np.array(sizes, dtype=np.int64), read=read, identities=identities)
