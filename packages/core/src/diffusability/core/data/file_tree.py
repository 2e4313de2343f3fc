"""Files in a tree of folders: which there are, to which split they belong, and to which class."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from diffusability.core.errors import DataError
from diffusability.core.seeds import derived_seed


def file_paths(root: Path, suffixes: Collection[str]) -> list[str]:
    """Files with one of these suffixes below a folder, relative to it, sorted; hidden ones are left out."""
    found = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        found += [
            (relative / name).as_posix()
            for name in names
            if Path(name).suffix.lower() in suffixes and not name.startswith(".")
        ]
    return sorted(found)


def class_names_of(paths: Sequence[str], root: Path) -> list[str]:
    """The folders right below the root, sorted. Raises DataError when a file lies in none."""
    loose = [path for path in paths if "/" not in path]
    if loose:
        raise DataError(f"labels: folder, but {loose[0]!r} lies in no class folder of {str(root)!r}")
    return sorted({path.split("/")[0] for path in paths})


def is_validation(path: str, share: float) -> bool:
    """Whether a file belongs to validation: a function of its name, so that new files move no old ones."""
    return derived_seed("validation", path) / 2**63 < share


def label_of(path: str, class_names: Sequence[str], root: Path) -> int:
    """The class of a file. Raises DataError when its folder is not among the classes."""
    name = path.split("/", maxsplit=1)[0]
    if name not in class_names:
        raise DataError(f"class folder {name!r} of {str(root)!r} is not among {', '.join(class_names)}")
    return class_names.index(name)
