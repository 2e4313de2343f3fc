"""Checksums of files, for damage that leaves their size as it is."""

import zlib
from pathlib import Path

_BLOCK_BYTES = 1 << 22


def crc32_of(path: Path) -> int:
    """CRC-32 of a file's bytes, read in blocks: some gigabytes a second, so that it costs less than writing them.

    Raises:
        OSError: the file cannot be read.
    """
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum
