"""Where the examples of a tar file lie, so that any of them can be read without what stands before it."""

import hashlib
import posixpath
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np

from diffusability.core.data.specs.shard_files import shard_problem
from diffusability.core.errors import DataError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.reading import user_cache
from diffusability.core.writing import replacing

_BLOCK = 512
_VERSION = 3
#: Members that webdataset skips, too (its ``skip_meta``).
_METADATA = re.compile(r"__[^/]*__($|/)")
_MOST_STRANGERS = 5


@attrs.frozen(kw_only=True, eq=False)
class TarIndex:
    """The examples of one shard, in its order; a column each.

    Attributes:
        offset: first byte of the image member's content; -1 for an example that is lost, with ``size`` as the reason.
        size: its bytes.
        label: the class, or -1.
        place: a number in [0, 1) from the example's key, to split by.
        problem: what is wrong with the file from some place on; empty for a whole one.
        strangers: some names of members that are neither image nor label.
    """

    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray
    place: np.ndarray
    problem: str
    strangers: str = ""


@attrs.define
class _Row:
    """An example under way. Its members need not follow each other; one of a kind that it has begins the next."""

    place: float
    offset: int = -1
    size: int = 0
    label: int = -1
    extensions: set[str] = attrs.field(factory=set)


def split_key(name: str) -> tuple[str, str]:
    """A member's key and its extension: all from the first dot of the last part on, as webdataset splits them."""
    folder, _, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return (f"{folder}/{stem}" if folder else stem), extension.lower()


def _members(path: Path) -> Iterator[tarfile.TarInfo | str]:
    """The members of a tar file, and at the end a sentence about damage, if there is any."""
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as opened:
            for member in opened:
                if member.isfile() and member.offset_data + member.size > size:
                    yield f"member {member.name!r} is cut short: the file ends after {size} bytes"
                    return
                yield member
                opened.members = []  # type: ignore[attr-defined] # tarfile keeps every header, for a million files too
            end = opened.offset
    except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError) as error:
        yield f"{type(error).__name__}: {error}"
        return
    # tarfile takes a damaged header for the end of the archive; the real end is a block of zeros.
    with path.open("rb") as file:
        file.seek(end)
        block = file.read(_BLOCK)
    if block.strip(b"\0"):
        yield f"no valid member begins at byte {end}; what follows is lost"


def _place(member: tarfile.TarInfo, places: dict[str, tuple[int, int]]) -> tuple[int, int] | None:
    """First byte and size of a member's content; of a link, those of the earlier member that it names; else None.

    tar writes the second name of a file as a hard link, without its content.
    """
    if member.isfile():
        places[member.name] = (member.offset_data, member.size)
    elif member.islnk():
        return places.get(member.linkname)
    elif member.issym():
        return places.get(posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname)))
    return places.get(member.name) if member.isfile() else None


def build_index(path: Path, images: Sequence[str], label: str | None) -> TarIndex:
    """Reads all headers (and labels) of an uncompressed tar file.

    A key may come again: what then stands under it is a further example, as in webdataset. What webdataset skips is
    no example: members without an extension, and names such as ``__meta__``.

    Raises:
        DataError: it is not a tar file, or its labels are not numbers.
    """
    unusable = shard_problem(path)
    if unusable is not None:
        raise DataError(f"shard {str(path)!r} cannot be used: {unusable}")
    rows: list[_Row] = []
    latest: dict[str, _Row] = {}
    strangers: dict[str, str] = {}
    places: dict[str, tuple[int, int]] = {}
    problem = ""
    with path.open("rb") as file:
        for member in _members(path):
            if isinstance(member, str):
                problem = member
                break
            key, extension = split_key(member.name)
            place = _place(member, places)
            if place is None or not extension or _METADATA.match(member.name):
                continue
            if member.name.rpartition("/")[2].startswith("."):
                continue
            row = latest.get(key)
            if row is None or extension in row.extensions:
                row = latest[key] = _Row(derived_seed("validation", key) / 2**63)
                rows.append(row)
            row.extensions.add(extension)
            if extension in images:
                row.offset, row.size = place
            elif label is not None and extension == label:
                file.seek(place[0])
                text = file.read(place[1]).decode(errors="replace").strip()
                if not text.isdigit():
                    raise DataError(
                        f"{str(path)!r}: member {member.name!r} holds {text[:40]!r}; expected a class number"
                    )
                row.label = int(text)
            elif len(strangers) < _MOST_STRANGERS:
                strangers.setdefault(extension, member.name)
    if problem and rows and rows[-1].offset < 0:
        rows.pop()  # the example in which the damage lies: `problem` stands for it
    if not rows and problem:
        raise DataError(f"shard {str(path)!r} is not a readable tar file: {problem}")
    return TarIndex(
        offset=np.array([row.offset for row in rows], dtype=np.int64),
        size=np.array([row.size for row in rows], dtype=np.int64),
        label=np.array([row.label for row in rows], dtype=np.int64),
        place=np.array([row.place for row in rows], dtype=np.float64),
        problem=problem,
        strangers=", ".join(map(repr, strangers.values())),
    )


def _cache_path(path: Path, images: Sequence[str], label: str | None) -> Path | None:
    state = path.stat()
    identity = (_VERSION, str(path.resolve()), state.st_size, state.st_mtime_ns, *images, label)
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
    cache = user_cache("tar-index")
    return None if cache is None else cache / f"{name}.npz"


def tar_index(path: Path, images: Sequence[str], label: str | None) -> TarIndex:
    """The index of a shard: from the user's cache folder, or built and put there. A changed file gets a new one."""
    cached = _cache_path(path, images, label)
    if cached is None:
        return build_index(path, images, label)
    kept = _read_kept(cached)
    if kept is not None:
        return kept
    index = build_index(path, images, label)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cached, shared=True) as partial, partial.open("wb") as file:
            np.savez(file, **attrs.asdict(index))
    except OSError:
        pass  # the cache only saves time
    return index


def _read_kept(path: Path) -> TarIndex | None:
    """An index from the cache folder; None when there is none, or it is damaged: it is then built again."""
    try:
        with path.open("rb") as file, np.load(file) as content:
            columns = {name: content[name] for name in ("offset", "size", "label", "place")}
            problem, strangers = str(content["problem"]), str(content["strangers"])
    except Exception:  # noqa: BLE001 - a damaged npz raises errors of zipfile, zlib, struct and numpy
        return None
    whole = all(column.ndim == 1 and len(column) == len(columns["offset"]) for column in columns.values())
    types = {name: column.dtype == (np.float64 if name == "place" else np.int64) for name, column in columns.items()}
    return TarIndex(**columns, problem=problem, strangers=strangers) if whole and all(types.values()) else None
