"""Keeps the indices of video files, so that a file is read or decoded for its index once."""

import hashlib
import zipfile
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.video.video_index import VideoIndex, index_of_frames, index_of_packets
from diffusability.core.reading import user_cache
from diffusability.core.writing import replacing

_VERSION = 2


def _cache_path(path: Path) -> Path | None:
    """A file of the user's cache folder, named by the video's path, size and time, and by the decoder; None without
    such a folder."""
    import av

    state = path.stat()
    identity = (_VERSION, str(path.resolve()), state.st_size, state.st_mtime_ns, sorted(av.library_versions.items()))
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
    cache = user_cache("video-index")
    return None if cache is None else cache / f"{name}.npz"


def _stored(cached: Path) -> VideoIndex | None:
    try:
        with np.load(cached) as content:
            return VideoIndex(
                times=tuple(content["times"].tolist()),
                unit=Fraction(*content["unit"].tolist()),
                duration=int(content["duration"]),
                size=tuple(content["size"].tolist()),
                pixel_aspect=Fraction(*content["pixel_aspect"].tolist()),
                starts=tuple(content["starts"].tolist()),
                digests=tuple(row.tobytes() for row in content["digests"]) or None,
                problem=str(content["problem"]),
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _store(cached: Path, index: VideoIndex) -> None:
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cached, shared=True) as partial, partial.open("wb") as file:
            np.savez(
                file,
                times=np.array(index.times, dtype=np.int64),
                unit=np.array(index.unit.as_integer_ratio()),
                duration=index.duration,
                size=np.array(index.size),
                pixel_aspect=np.array(index.pixel_aspect.as_integer_ratio()),
                starts=np.array(index.starts, dtype=np.int64),
                digests=np.frombuffer(b"".join(index.digests or ()), dtype=np.uint8).reshape(-1, 8),
                problem=index.problem,
            )
    except OSError:
        pass  # the cache only saves time


@lru_cache(maxsize=4096)
def _index(path: Path, size: int, changed: int) -> VideoIndex:
    """``size`` and ``changed`` tell a file that was replaced from the one before."""
    cached = _cache_path(path)
    index = None if cached is None else _stored(cached)
    if index is None:
        index = index_of_packets(path) or index_of_frames(path)
        if cached is not None:
            _store(cached, index)
    return index


def video_index(path: Path) -> VideoIndex:
    """The frames of a file: from its packets where they prove them, else by decoding it once. Kept either way.

    Raises:
        UnreadableExample: it is missing, no video, has no frames, or is damaged. (Says what could be read.)
    """
    try:
        state = path.stat()
    except OSError as error:
        raise UnreadableExample(f"{path}: {type(error).__name__}: {error}") from error
    index = _index(path, state.st_size, state.st_mtime_ns)
    if index.problem:
        raise UnreadableExample(f"{path}: {index.problem}")
    return index


def forget_index(path: Path) -> None:
    """Drops what is kept of a file: its frames are others than the index says."""
    cached = _cache_path(path)
    if cached is not None:
        cached.unlink(missing_ok=True)
    _index.cache_clear()
