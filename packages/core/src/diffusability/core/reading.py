"""Turns what libraries raise about a file into errors for its owner. No torch."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusability.core.errors import DataError, DiffusabilityError

#: How a pointer of Git LFS begins, and what is said of a file that is one.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_REASON = "it is a Git LFS pointer, not the file itself; fetch it with 'git lfs pull' or download it"
#: First bytes of compressed files.
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_LONGEST_REASON = 300


@contextmanager
def reading(what: str, path: Path | str, error: type[Exception] = DataError) -> Iterator[None]:
    """Turns an exception of a ``with`` block about a file into an ``error`` that names the file and the reason.

    Our own errors pass as they are; so does what no file is to blame for (interrupts, memory, an unraised warning).
    Where the file is a pointer of Git LFS, that is the reason.

    Args:
        what: what it should be, such as ``"latent cache"``.
        path: the file or folder.
        error: the class of error to raise.
    """
    try:
        yield
    except (DiffusabilityError, MemoryError, Warning):
        raise
    except Exception as cause:
        raise error(f"{what} {shown(path)} cannot be read: {reason_of(cause, path)}") from cause


def reason_of(cause: BaseException, path: Path | str | None = None) -> str:
    """One line that says what is wrong with a file: that it is a pointer of Git LFS, or what a library raised."""
    pointer = lfs_problem(path) if path is not None else None
    if pointer is not None:
        return pointer
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    text = " ".join(str(cause).split())[:_LONGEST_REASON]
    if isinstance(cause, json.JSONDecodeError):
        return f"not valid JSON: {text}"
    if isinstance(cause, KeyError):
        return f"{text} is missing"
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def shown(path: Path | str) -> str:
    """A path in quotes that can be printed: bytes of a name that are not UTF-8 as ``\\udcXX``."""
    return repr(os.fspath(path))


def first_bytes(path: Path | str, count: int) -> bytes:
    """The beginning of a file; nothing of one that is missing or cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(count)
    except (OSError, ValueError):  # missing, a folder, a name with a NUL: that is said elsewhere
        return b""


def lfs_problem(path: Path | str) -> str | None:
    """A sentence when a file is not what its name says but a pointer of Git LFS, fetched without ``git lfs``."""
    return LFS_REASON if first_bytes(path, len(LFS_POINTER)) == LFS_POINTER else None


def compression_of(path: Path | str) -> str | None:
    """The name of the compression that a file's first bytes tell, or None."""
    start = first_bytes(path, 8)
    return next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)


def parsed_json(text: str | bytes) -> Any:
    """The content of a JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json_object(path: Path, what: str, error: type[Exception] = DataError) -> dict[str, Any]:
    """The object in a JSON file. Raises ``error`` when it is missing, cut, or holds something else."""
    with reading(what, path, error):
        content = parsed_json(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise error(f"{what} {shown(path)} holds a {type(content).__name__}; expected a JSON object")
    return content


def user_cache(name: str) -> Path | None:
    """A folder of ours below the user's cache folder (``XDG_CACHE_HOME``); None where there is no home."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:  # HOME is not set, and the user has no entry that names one
        return None
    return cache / "diffusability" / name
