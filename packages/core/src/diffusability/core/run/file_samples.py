"""Digests of single files of a stage, so that a message about changed files can name one. Free of torch."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusability.core.errors import DataError
from diffusability.core.reading import read_json_object, shown
from diffusability.core.run.folder_writer import write_json
from diffusability.core.specs.files.contents import FileSet, digests_of

SAMPLE = "contents-files.json"
#: Files of a set whose digests are kept; of larger sets those that a checksum of the name selects.
MOST_FILES = 5_000
_DIGEST_DIGITS = 12


def write_samples(directory: Path, sets: Mapping[str, FileSet]) -> None:
    """Writes the digests of files into a stage's folder, by the place in the spec that names their set."""
    write_json(directory / SAMPLE, {name: _sample(files, 1) for name, files in sets.items()})


def changed_file(directory: Path, name: str, files: FileSet) -> str | None:
    """A file of a set that is not what it was, with what happened to it; None where the digests kept tell of none.

    Args:
        directory: the stage's folder.
        name: the place in the spec that names the set.
        files: the set as it is now.
    """
    try:
        kept = read_json_object(directory / SAMPLE, "digests of files")[name]
        one_in, before = int(kept["one_in"]), dict(kept["files"])
        now = _sample(files, one_in)
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return None
    present, one_in = now["files"], now["one_in"]
    before = {file: digest for file, digest in before.items() if _selected(file, one_in)}
    kinds = {
        "has other content": sorted(file for file in before.keys() & present.keys() if before[file] != present[file]),
        "is new": sorted(present.keys() - before.keys()),
        "is gone": sorted(before.keys() - present.keys()),
    }
    for what, names in kinds.items():
        if names:
            return f"{shown(files.root / names[0] if names[0] else files.root)} {what}"
    return None


def _sample(files: FileSet, least: int) -> dict[str, Any]:
    """Digests of the files of a set, or of one in so many of them: the least power of two that leaves few enough."""
    names = list(files.names or ("",))
    one_in = least
    while len(names := [name for name in names if _selected(name, one_in)]) > MOST_FILES:
        one_in *= 2
    digests = digests_of(files, names)
    return {"one_in": one_in, "files": {name: digest[:_DIGEST_DIGITS] for name, digest in digests.items()}}


def _selected(name: str, one_in: int) -> bool:
    return zlib.crc32(name.encode(errors="surrogateescape")) % one_in == 0
