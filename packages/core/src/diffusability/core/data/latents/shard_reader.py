"""Rows of safetensors files, read one at a time, each compared with its checksum."""

import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.reading import parsed_json, reading

#: After a column's name: the column of the CRC-32 of each of its rows. Files of earlier versions have none.
SUMS = "_crc32"
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "I64": torch.int64}


class ShardReader:
    """The rows of one shard by ``pread``: nothing but the rows that are asked for is ever in memory.

    (A memory map would count all pages that were ever touched as this process's.)

    Raises:
        DataError: the file is missing or cut short, or no safetensors file; of ``row``, that the row has changed since
            it was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading("latent shard", path):
            self._open()

    def _open(self) -> None:
        path = self.path
        self._file = os.open(path, os.O_RDONLY)
        size = os.fstat(self._file).st_size
        (length,) = struct.unpack("<Q", os.pread(self._file, 8, 0))
        header = parsed_json(os.pread(self._file, min(length, size), 8))
        self.metadata: dict[str, str] = dict(header.pop("__metadata__", {}))
        self.tensors: dict[str, Any] = header
        self._start = 8 + length
        for entry in header.values():
            begin, end = entry["data_offsets"]
            if math.prod(entry["shape"]) * _DTYPES[entry["dtype"]].itemsize != end - begin or begin < 0:
                raise DataError(f"latent shard {str(path)!r} is damaged: a tensor's size does not fit its shape")
        end = self._start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if end > size:
            raise DataError(f"latent shard {str(path)!r} cannot be read: it has {size} bytes of {end}")

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    @property
    def num_rows(self) -> int:
        """Examples in the shard."""
        return int(self.tensors["mean"]["shape"][0])

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one row of a tensor."""
        return tuple(self.tensors[name]["shape"][1:])

    def row(self, name: str, index: int) -> Tensor:
        """A copy of one row. Raises DataError where it does not match its checksum."""
        content, dtype, shape = self._bytes(name, index)
        if name + SUMS in self.tensors:
            (expected,) = struct.unpack("<q", self._bytes(name + SUMS, index)[0])
            if zlib.crc32(content) != expected:
                raise DataError(
                    f"latent shard {str(self.path)!r} is damaged: row {index} of {name!r} does not match its checksum;"
                    " remove the file and encode again"
                )
        return torch.frombuffer(bytearray(content), dtype=dtype).view(tuple(shape))

    def verify(self) -> None:
        """Reads all rows. Raises DataError at the first that does not match its checksum."""
        for name in self.tensors:
            for index in range(self.num_rows):
                self.row(name, index)

    def _bytes(self, name: str, index: int) -> tuple[bytes, torch.dtype, Sequence[int]]:
        """A row as it is in the file, with its type and shape."""
        if name not in self.tensors:
            raise DataError(f"latent shard {str(self.path)!r} holds no {name!r}; it has {', '.join(self.tensors)}")
        entry = self.tensors[name]
        dtype = _DTYPES[entry["dtype"]]
        shape: Sequence[int] = entry["shape"][1:]
        num_bytes = math.prod(shape) * dtype.itemsize
        content = os.pread(self._file, num_bytes, self._start + entry["data_offsets"][0] + index * num_bytes)
        if len(content) != num_bytes:
            raise DataError(f"latent shard {str(self.path)!r} is cut short: row {index} of {name!r} is missing")
        return content, dtype, shape
