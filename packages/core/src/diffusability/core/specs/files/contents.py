"""What files hold, as a digest that names and contents decide, and neither times nor the machine. Free of torch."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from diffusability.core.reading import parsed_json, user_cache
from diffusability.core.writing import replacing

#: Sets of files up to this size are read whole; of larger ones, pieces of each file.
WHOLE_BYTES = 256 * 2**20
_PIECE_BYTES = 4096
_MOST_PIECES = 64
_DIGEST_BYTES = 16
#: Files that changed so shortly before they were read are read again: their times may not tell a further change.
_SETTLED_SECONDS = 2.0
_VERSION = 1


@attrs.frozen(kw_only=True)
class FileSet:
    """Files that decide what is built.

    Attributes:
        root: the folder, or the file itself.
        names: the files below the folder; empty for a root that is a file.
        facts: what counts besides, such as the names of class folders.
        whole: read every byte, whatever the size.
    """

    root: Path
    names: Sequence[str] = ()
    facts: Sequence[str] = ()
    whole: bool = False


@attrs.frozen(kw_only=True)
class Contents:
    """What a set of files holds.

    Attributes:
        digest: of names, sizes and contents (hexadecimal).
        files: how many there are.
        bytes: their sizes together.
    """

    digest: str
    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.files:,} file{'' if self.files == 1 else 's'} of {self.bytes:,} bytes ({self.digest[:12]})"


@attrs.frozen
class _Stated:
    """A file as the file system states it."""

    name: str
    path: str
    size: int
    changed: float
    state: bytes


def contents(files: FileSet) -> Contents:
    """Reads a set of files, or what it remembers of them.

    Digests of files are remembered in ``$XDG_CACHE_HOME/diffusability/contents`` by name, size, both times and inode:
    a file that was not touched is read once, and one that was merely touched or copied has the same digest again.

    Raises:
        OSError: a file is there and cannot be read.
    """
    names = files.names or ("",)
    state, total = _state(files.root, names)
    whole = files.whole or total <= WHOLE_BYTES
    memory = _Memory(files, whole)
    digest = memory.whole_set(state)
    if digest is None:
        stated = [_stated(files.root, name) for name in names]
        known = _read_all(stated, memory.files(), whole)
        digest = _digest(stated, known)
        memory.keep(state, digest, stated, known)
    if files.facts:
        digest = hashlib.blake2b(
            json.dumps([digest, *files.facts]).encode(errors="surrogateescape"), digest_size=_DIGEST_BYTES
        ).hexdigest()
    return Contents(digest=digest, files=len(names), bytes=total)


def digests_of(files: FileSet, names: Sequence[str]) -> dict[str, str]:
    """A digest (hexadecimal) of what each of these files of a set holds, read or remembered as in ``contents``.

    Raises:
        OSError: a file is there and cannot be read.
    """
    _, total = _state(files.root, files.names or ("",))
    whole = files.whole or total <= WHOLE_BYTES
    stated = [_stated(files.root, name) for name in names]
    known = _read_all(stated, _Memory(files, whole).files(), whole)
    return {file.name: known[file.state].hex() for file in stated}


def _path(root: Path, name: str) -> str:
    return os.path.join(root, name) if name else str(root)


def _facts(path: str) -> tuple[int, ...]:
    """Size, both times, inode and device of a file; nothing of a link that leads nowhere."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return ()
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def _state(root: Path, names: Sequence[str]) -> tuple[str, int]:
    """A digest of what the file system states of all files, and their sizes together."""
    state, total = hashlib.blake2b(str(_VERSION).encode(), digest_size=_DIGEST_BYTES), 0
    for name in names:
        facts = _facts(_path(root, name))
        total += facts[0] if facts else 0
        state.update(os.fsencode(f"{name}\0{facts}\0"))
    return state.hexdigest(), total


def _stated(root: Path, name: str) -> _Stated:
    path = _path(root, name)
    facts = _facts(path)
    state = hashlib.blake2b(repr((_VERSION, name, facts)).encode(), digest_size=_DIGEST_BYTES).digest()
    size, changed = (facts[0], max(facts[1:3]) / 1e9) if facts else (0, 0.0)
    return _Stated(name, path, size, changed, state)


def _read_all(stated: Sequence[_Stated], known: Mapping[bytes, bytes], whole: bool) -> dict[bytes, bytes]:
    """The digest of each file by its state; only files that are not known are read."""
    missing = [file for file in stated if file.state not in known]
    digests = {file.state: known[file.state] for file in stated if file.state in known}
    with ThreadPoolExecutor(max_workers=8) as pool:  # waits for disks and networks, eight files at a time
        batches = [missing[first : first + 64] for first in range(0, len(missing), 64)]
        for batch in pool.map(lambda files: [(file.state, _read(file, whole)) for file in files], batches):
            digests.update(batch)
    return digests


def _digest(stated: Sequence[_Stated], known: Mapping[bytes, bytes]) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for file in stated:
        digest.update(os.fsencode(file.name) + b"\0" + str(file.size).encode() + b"\0" + known[file.state])
    return digest.hexdigest()


def _read(file: _Stated, whole: bool) -> bytes:
    """Digest of a file: of all of it, or of its beginning, end and evenly spread pieces, about one in each MiB."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    try:
        with open(file.path, "rb", buffering=0) as opened:
            if whole:
                while piece := opened.read(1 << 20):
                    digest.update(piece)
                return digest.digest()
            for offset in _offsets(file.size):
                opened.seek(offset)
                digest.update(opened.read(_PIECE_BYTES))
    except FileNotFoundError:
        pass
    return digest.digest()


def _offsets(size: int) -> Iterator[int]:
    pieces = min(_MOST_PIECES, 3 + (size >> 20))
    last = max(0, size - _PIECE_BYTES)
    yield from sorted({round(last * place / (pieces - 1)) for place in range(pieces)})


class _Memory:
    """Digests of files that were read before. Only saves time: it may be removed, and its folder read-only."""

    def __init__(self, files: FileSet, whole: bool) -> None:
        # Of files that lie anywhere the list itself is the name: lists from one working folder are to be kept apart.
        listed = "\0".join(files.names) if files.root == Path() else ""
        name = hashlib.sha256(os.fsencode(f"{files.root.absolute()}\0{whole}\0{listed}")).hexdigest()[:32]
        cache = user_cache("contents") or Path(os.devnull)  # below which nothing is read, nor written
        self._set, self._files = cache / f"{name}.json", cache / f"{name}.files"

    def whole_set(self, state: str) -> str | None:
        """The digest of the whole set, if it is in the state in which it was read."""
        try:
            content = parsed_json(self._set.read_text())
            return str(content["digest"]) if content["state"] == state else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def files(self) -> dict[bytes, bytes]:
        """The digests of files by their states."""
        try:
            content = self._files.read_bytes()
        except OSError:
            return {}
        step = 2 * _DIGEST_BYTES
        return {
            content[place : place + _DIGEST_BYTES]: content[place + _DIGEST_BYTES : place + step]
            for place in range(0, len(content) - len(content) % step, step)
        }

    def keep(self, state: str, digest: str, stated: Sequence[_Stated], known: Mapping[bytes, bytes]) -> None:
        """Remembers what was read, except of files that changed a moment ago."""
        settled = [file for file in stated if file.changed < time.time() - _SETTLED_SECONDS]
        written = {self._files: b"".join(file.state + known[file.state] for file in settled)}
        if len(settled) == len(stated):
            written[self._set] = json.dumps({"state": state, "digest": digest}).encode()
        try:
            self._set.parent.mkdir(parents=True, exist_ok=True)
            for path, content in written.items():
                with replacing(path, shared=True) as partial:
                    partial.write_bytes(content)
        except OSError:
            pass
