"""Files of weights: safetensors, or torch files that hold nothing but tensors. A pickle of anything else is refused."""

import json
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusability.core.errors import CheckpointError
from diffusability.core.reading import lfs_problem, reading, reason_of

if TYPE_CHECKING:
    from torch import Tensor

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
#: Suffixes of files with weights.
WEIGHT_SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_FORMATS = ", ".join(WEIGHT_SUFFIXES)


def read_header(path: Path) -> dict[str, Any]:
    """Names, shapes and types of the tensors of a safetensors file, by its first bytes. Needs no torch.

    Raises:
        CheckpointError: the file is not a safetensors file, or shorter than its header says (cut off).
    """
    refuse_pointer(path)
    with reading("safetensors file", path, CheckpointError), path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise CheckpointError(
                f"{str(path)!r} is not a whole safetensors file: it has {size:,} bytes, less than a header"
            )
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{str(path)!r} is not a safetensors file: {error}") from None
        header.pop("__metadata__", None)
        expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size != expected:
        raise CheckpointError(
            f"{str(path)!r} is cut short or damaged: it has {size:,} of {expected:,} bytes; download it again"
        )
    return header


def refuse_pointer(path: Path) -> None:
    """Raises CheckpointError for a pointer of Git LFS in place of a file."""
    problem = lfs_problem(path)
    if problem is not None:
        raise CheckpointError(f"{str(path)!r} holds no weights: {problem}")


def check_weight_file(path: Path) -> None:
    """Looks whether a file of weights is there, of a known format, and whole. Needs no torch.

    Raises:
        ValueError: it is missing or of another format.
        CheckpointError: it is cut short.
    """
    if path.suffix not in WEIGHT_SUFFIXES:
        raise ValueError(f"{str(path)!r} is of no known format; expected one of {_FORMATS}")
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}; expected weights in one of {_FORMATS}")
    refuse_pointer(path)
    if path.suffix == ".safetensors":
        read_header(path)


def read_weight_file(path: Path) -> "dict[str, Tensor]":
    """The tensors of a file, on the CPU, in float32 where they are floating-point.

    Raises:
        CheckpointError: the file is missing, cut short, or a pickle of more than tensors.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {str(path)!r}; expected weights in one of {', '.join(WEIGHT_SUFFIXES)}"
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        read_header(path)
        with reading("safetensors file", path, CheckpointError):
            tensors: Mapping[str, Tensor] = load_file(path)
    elif path.suffix in TORCH_SUFFIXES:
        tensors = _read_torch_file(path)
    else:
        raise CheckpointError(f"{str(path)!r} is of no known format; expected one of {_FORMATS}")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a file, by name. Loads torch for a torch file alone, and no tensor.

    Raises:
        CheckpointError: the file is missing, of no known format, cut short, or a pickle of more than tensors.
    """
    if path.suffix == ".safetensors" and path.is_file():
        return {name: tuple(entry["shape"]) for name, entry in read_header(path).items()}
    return {name: tuple(tensor.shape) for name, tensor in _opened(path).items()}


def read_tensors(path: Path, names: Mapping[str, str]) -> "dict[str, Tensor]":
    """Some tensors of a file, in float32 where they are floating-point, by the keys of ``names``.

    The others are not read: a whole checkpoint may hold many times an autoencoder.

    Raises:
        CheckpointError: as for ``read_weight_file``.
    """
    if path.suffix == ".safetensors" and path.is_file():
        from safetensors import safe_open

        read_header(path)
        with reading("safetensors file", path, CheckpointError), safe_open(path, framework="pt") as file:
            chosen = {key: file.get_tensor(name) for key, name in names.items()}
    else:
        tensors = _opened(path)
        chosen = {key: tensors[name] for key, name in names.items()}
    return {key: tensor.float() if tensor.is_floating_point() else tensor.clone() for key, tensor in chosen.items()}


def _opened(path: Path) -> "Mapping[str, Tensor]":
    """The tensors of a torch file, left on the disk until they are used."""
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {str(path)!r}; expected weights in one of {', '.join(WEIGHT_SUFFIXES)}"
        )
    if path.suffix not in TORCH_SUFFIXES:
        raise CheckpointError(f"{str(path)!r} is of no known format; expected one of {_FORMATS}")
    return _read_torch_file(path, mapped=True)


def _read_torch_file(path: Path, mapped: bool = False) -> "Mapping[str, Tensor]":
    import torch

    refuse_pointer(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            mapped = mapped and zipfile.is_zipfile(path)  # torch files of before 1.6 cannot be mapped
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{str(path)!r} is refused: a pickle may run code when loaded, and this one holds more than weights"
            f" ({reason}); expected a state dict, best as .safetensors"
        ) from None
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for files that are cut short or no weights
        raise CheckpointError(f"{str(path)!r} cannot be read, it may be cut short: {reason_of(error)}") from None
    tensors = dict(_tensors_in(content, ""))
    if not tensors:
        raise CheckpointError(f"{str(path)!r} holds a {type(content).__name__}; expected a state dict of tensors")
    return tensors


def _tensors_in(content: object, prefix: str) -> "Iterator[tuple[str, Tensor]]":
    """The tensors of a state dict, also of one within a checkpoint: ``ema.x`` for what stands under ``ema``."""
    import torch

    if not isinstance(content, Mapping):
        return
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        else:
            yield from _tensors_in(value, f"{prefix}{name}.")
