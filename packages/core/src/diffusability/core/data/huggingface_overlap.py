"""Compares the rows of two splits of a Hugging Face dataset."""

from pathlib import Path
from typing import Any

import numpy as np

from diffusability.core.data.overlap import Part, refuse_overlap
from diffusability.core.data.specs.huggingface import HuggingFaceSpec
from diffusability.core.errors import DataError


def refuse_equal_rows(spec: HuggingFaceSpec, train: Any, validation: Any) -> list[str]:
    """Compares the encoded images of both splits; of a stream, the names of the splits alone.

    Returns:
        A sentence about a few copies, or that a stream's contents are not compared; or nothing.

    Raises:
        DataError: the splits overlap.
    """
    where = f"dataset {spec.path!r}, split {spec.split!r} and validation_split {spec.validation_split!r}"
    if spec.split == spec.validation_split:
        raise DataError(f"{where}: validation would be what is trained on; expected two splits that share no example")
    if spec.streaming:
        return [f"{where}: not compared by content, for that would read the whole stream; images in both stay unseen"]
    return refuse_overlap(_part(train, spec.image), _part(validation, spec.image), where)


def _part(opened: Any, column: str) -> Part:
    """The rows of a table: their bytes, or those of the files that they name."""

    def read(place: int) -> bytes:
        value = opened[place][column] or {}
        content: bytes | None = value.get("bytes")
        if content is None and value.get("path"):
            try:
                return Path(value["path"]).read_bytes()
            except OSError:
                return b""
        return content or b""

    return Part(names=None, sizes=_sizes(opened, column), read=read)


def _sizes(opened: Any, column: str) -> np.ndarray:
    """Bytes of each row's image, from the table's offsets without reading the images."""
    import pyarrow.compute as pc

    sizes: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    for batch in opened.select_columns([column]).with_format("arrow").iter(1000):
        images = batch[column]
        lengths = np.array(pc.binary_length(pc.struct_field(images, "bytes")).to_pylist(), dtype=object)
        for place in np.flatnonzero(lengths == None):  # noqa: E711 - elementwise
            path = pc.struct_field(images, "path")[int(place)].as_py()
            lengths[place] = Path(path).stat().st_size if path and Path(path).is_file() else 0
        sizes.append(lengths.astype(np.int64))
    return np.concatenate(sizes)
