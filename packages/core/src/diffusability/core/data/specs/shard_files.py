"""Shards by patterns, and copies of those that lie elsewhere, through webdataset's own readers."""

import fcntl
import hashlib
import re
import shutil
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from diffusability.core.errors import DataError
from diffusability.core.reading import compression_of, lfs_problem
from diffusability.core.writing import replacing


def is_url(shard: str) -> bool:
    """True for what is not a path on this machine: ``https:``, ``s3:``, ``pipe:`` and the like."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", shard) is not None and not shard.startswith("file:")


def globbed(shard: str) -> list[Path]:
    """The files that match a pattern with ``*``, ``?`` or ``[...]``, sorted by name."""
    return [Path(name) for name in sorted(glob(shard.removeprefix("file:"), recursive=True))]


def shard_problem(path: Path) -> str | None:
    """Why a file cannot be a shard, by its first bytes: a pointer of Git LFS, or compressed as a whole; else None."""
    pointer = lfs_problem(path)
    if pointer is not None:
        return pointer
    compression = compression_of(path)
    if compression is None:
        return None
    return (
        f"it is compressed with {compression}, so that its members cannot be read in any order; unpack it once"
        f" (gunzip and the like) and name the .tar"
    )


def local_shards(patterns: Sequence[str], download_to: Path | None) -> list[Path]:
    """The shards of patterns, in order; those that are given as URLs are fetched first, each once.

    Raises:
        DataError: a shard does not exist or cannot be fetched.
    """
    from webdataset.shardlists import expand_urls

    shards = [shard for pattern in patterns for expanded in expand_urls(pattern) for shard in _matches(expanded)]
    missing = [shard for shard in shards if not is_url(shard) and not Path(shard.removeprefix("file:")).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"shard {missing[0]!r}{more} of {list(patterns)} does not exist")
    return [_fetched(shard, download_to) if is_url(shard) else Path(shard.removeprefix("file:")) for shard in shards]


def _matches(shard: str) -> list[str]:
    """The files that match a pattern with ``*``; a file, a URL or a name without ``*`` is returned as it is."""
    if is_url(shard) or "*" not in shard or Path(shard.removeprefix("file:")).is_file():
        return [shard]
    return [str(path) for path in globbed(shard)] or [shard]


def _fetched(url: str, folder: Path | None) -> Path:
    """The local copy of a shard. Several processes may ask at once: one fetches, the others wait for it."""
    if folder is None:
        raise DataError(f"shard {url!r} is a URL; give 'download_to', a folder with room for the shards")
    from webdataset.gopen import gopen

    name = url.rstrip("/").rsplit("/", maxsplit=1)[-1].split("?", maxsplit=1)[0] or "shard.tar"
    target = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_file():
            return target
        with replacing(target) as partial:
            try:
                with gopen(url) as stream, partial.open("wb") as file:
                    shutil.copyfileobj(stream, file, 1 << 20)
            except Exception as error:  # noqa: BLE001 - every reader has errors of its own
                raise DataError(f"shard {url!r} cannot be fetched: {type(error).__name__}: {error}") from None
            if partial.stat().st_size == 0:
                raise DataError(f"shard {url!r} cannot be fetched: it is empty")
    return target
