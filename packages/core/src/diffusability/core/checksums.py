"""Checksums of files and of tensors, for damage that leaves their size as it is."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8

_BLOCK_BYTES = 1 << 22
#: Entry of a safetensors file's metadata: a JSON object of sums by name of tensor.
_ENTRY = "crc32"


class ChecksumError(ValueError):
    """Content is not what was written."""


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


def crc32_of_tensor(tensor: Tensor) -> int:
    """CRC-32 of a tensor's bytes in memory order, as safetensors writes them. It must be on the CPU."""
    return zlib.crc32(tensor.detach().contiguous().reshape(-1).view(uint8).numpy().data)


def crc32s_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The sum of each tensor, by name in alphabetical order."""
    return {name: crc32_of_tensor(tensors[name]) for name in sorted(tensors)}


def verify(tensors: Mapping[str, Tensor], sums: Mapping[str, int]) -> None:
    """Compares tensors with the sums of what was written. Raises ChecksumError that names one that differs."""
    if tensors.keys() != sums.keys():
        name = min(tensors.keys() ^ sums.keys())
        raise ChecksumError(f"tensor {name!r} is {'missing' if name in sums else 'not among those that were written'}")
    for name, tensor in tensors.items():
        if crc32_of_tensor(tensor) != sums[name]:
            raise ChecksumError(f"tensor {name!r} does not match its checksum: it has changed since it was written")


def save_with_checksums(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes a safetensors file whose metadata hold the sum of each tensor. Tensors are contiguous and on the CPU.

    Raises:
        SafetensorError: the file cannot be written; tensors share memory.
    """
    save_file(dict(tensors), path, metadata={_ENTRY: json.dumps(crc32s_of(tensors), allow_nan=False)})


def load_verified(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, compared with their sums where the file has some.

    Files of other tools and of earlier versions have none.

    Raises:
        ChecksumError: a tensor is not what was written.
        OSError, SafetensorError: the file is missing, cut short or no safetensors file.
    """
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file of tensors is not a mapping
        sums = (file.metadata() or {}).get(_ENTRY)
    if sums is not None:
        verify(tensors, json.loads(sums))
    return tensors
