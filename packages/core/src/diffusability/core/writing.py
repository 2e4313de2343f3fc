"""Files and folders that appear under their names whole or not at all. No torch."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: How names end under which something is written that is not finished; a killed process leaves one behind.
PARTIAL = ".partial"


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A path beside ``path`` under which to write a file, which takes the name and the place of ``path`` at the end.

    Where the block raises, ``path`` stays as it was and what was written is removed. Whoever reads ``path`` meanwhile
    has the old file or the new one.

    Args:
        path: the file, in a folder that exists.
        shared: other processes or threads may write the same file now; each writes under a name of its own.
    """
    writer = f".{os.getpid()}-{threading.get_ident()}" if shared else ""
    partial = path.with_name(f".{path.name}{writer}{PARTIAL}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As ``replacing``, for a folder: the block fills an empty one, which replaces ``path`` and all that is in it."""
    partial = path.with_name(f".{path.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
