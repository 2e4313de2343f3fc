"""What an engine needs to resume, as files that any number of ranks at any ZeRO stage can load.

Each rank writes its pieces of the master weights and of AdamW's moments under the parameters' names, so that nothing in
the files depends on how they were sharded but where they are cut.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusability.core.engine.checkpoints.master_weights import MOMENTS, Partition, Piece, partitions
from diffusability.core.engine.checkpoints.sharded_weights import gathered, local_part, local_values
from diffusability.core.engine.deepspeed_internals import link_moments
from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import CheckpointError

_UNTRAINED = "untrained.safetensors"
_COUNTERS = "engine.json"
_NUMBERS = (bool, int, float)


def save_engine(engine: Any, directory: Path, ranks: Ranks) -> None:
    """Writes this rank's part of an engine into an existing folder. All ranks must call it.

    Raises:
        OSError, SafetensorError: the files cannot be written.
    """
    untrained = _untrained(engine, ranks)  # first what takes all ranks: writing may fail on one of them
    if ranks.is_main or engine.zero_optimization_stage() > 0:  # without sharding all ranks hold the same
        tensors: dict[str, Tensor] = {}
        cuts: dict[str, tuple[int, int]] = {}
        for partition in partitions(engine):
            for piece in partition.pieces:
                cuts[piece.name] = (piece.first, partition.num_steps)
                for what in ("weights", *MOMENTS) if partition.has_moments else ("weights",):
                    tensors[f"{what}/{piece.name}"] = partition.read(what, piece)
        save_file(
            tensors, directory / f"rank-{ranks.rank:05d}.safetensors", {"cuts": json.dumps(cuts, allow_nan=False)}
        )
    if ranks.is_main:
        save_file(untrained, directory / _UNTRAINED)
        (directory / _COUNTERS).write_text(json.dumps(_counters(engine), allow_nan=False) + "\n")


def load_engine(engine: Any, directory: Path, ranks: Ranks) -> None:
    """Puts a saved engine's state into one of any layout. All ranks must call it.

    Raises:
        CheckpointError: a parameter is not in the files, or not all of it.
    """
    saved = _SavedPieces(directory)
    for partition in partitions(engine, writing=True):
        _load_partition(partition, saved)
    wrapper = engine.optimizer
    link_moments(wrapper)
    _load_untrained(engine, directory, ranks)
    counters = json.loads((directory / _COUNTERS).read_text())
    engine.global_steps = counters["steps"]
    engine.global_samples = engine.global_steps * engine.train_batch_size()
    engine.micro_steps = engine.global_steps * engine.gradient_accumulation_steps()
    engine.skipped_steps = counters["skipped_steps"]
    if hasattr(wrapper, "loss_scaler"):
        vars(wrapper.loss_scaler).update(counters["loss_scaler"])


def _load_partition(partition: Partition, saved: "_SavedPieces") -> None:
    num_steps = max((saved.num_steps(piece.name) for piece in partition.pieces), default=0)
    if num_steps > 0:
        partition.start_moments(num_steps)
    for piece in partition.pieces:
        partition.write("weights", piece, saved.read("weights", piece))
        if saved.num_steps(piece.name) > 0:  # else it never had a gradient: its moments are zero
            for moment in MOMENTS:
                partition.write(moment, piece, saved.read(moment, piece))


@attrs.frozen(kw_only=True)
class _Cut:
    file: Path
    first: int
    num_steps: int


class _SavedPieces:
    """The pieces in all ranks' files, found by name and place."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[Path, Any] = {}
        self._cuts: dict[str, list[_Cut]] = {}
        for file in sorted(directory.glob("rank-*.safetensors")):
            self._files[file] = safe_open(file, framework="pt")
            for name, (first, num_steps) in json.loads(self._files[file].metadata()["cuts"]).items():
                self._cuts.setdefault(name, []).append(_Cut(file=file, first=first, num_steps=num_steps))

    def num_steps(self, name: str) -> int:
        return max((cut.num_steps for cut in self._cuts.get(name, [])), default=0)

    def read(self, what: str, piece: Piece) -> Tensor:
        """The elements of a piece, however they were cut when they were saved."""
        elements = torch.empty(piece.size)
        num_found = 0
        for first, part in self._parts(what, piece):
            elements[first : first + len(part)] = part
            num_found += len(part)
        if num_found != piece.size:
            raise CheckpointError(
                f"checkpoint {str(self.directory)!r} has {num_found} of the {piece.size} elements from {piece.first} on"
                f" of {what} of parameter {piece.name!r}; was the code of the model changed meanwhile?"
            )
        return elements

    def _parts(self, what: str, piece: Piece) -> Iterator[tuple[int, Tensor]]:
        for cut in self._cuts.get(piece.name, []):
            run = self._files[cut.file].get_slice(f"{what}/{piece.name}")
            start, end = max(piece.first, cut.first), min(piece.first + piece.size, cut.first + run.get_shape()[0])
            if start < end:
                yield start - piece.first, run[start - cut.first : end - cut.first]


def _counters(engine: Any) -> dict[str, Any]:
    scaler = getattr(engine.optimizer, "loss_scaler", None)
    return {
        "steps": engine.global_steps,
        "skipped_steps": engine.skipped_steps,
        "loss_scaler": {k: v for k, v in vars(scaler).items() if isinstance(v, _NUMBERS)} if scaler else {},
    }


def _untrained(engine: Any, ranks: Ranks) -> dict[str, Tensor]:
    """Frozen parameters and persistent buffers, on the first rank: code may change them while training, too."""
    frozen = {name for name, value in engine.module.named_parameters() if not value.requires_grad}
    values = gathered(engine.module, local_values(engine.module, frozen), ranks)
    return values | {
        f"buffer/{name}": value.detach().to("cpu", copy=True).contiguous()
        for name, value in persistent_buffers(engine.module).items()
    }


@torch.no_grad()
def _load_untrained(engine: Any, directory: Path, ranks: Ranks) -> None:
    saved = load_file(directory / _UNTRAINED)
    frozen = {name: value for name, value in engine.module.named_parameters() if not value.requires_grad}
    held: Mapping[str, Tensor] = local_values(engine.module, set(frozen))
    for name, value in persistent_buffers(engine.module).items():
        value.copy_(_entry(saved, f"buffer/{name}", directory))
    for name, parameter in frozen.items():
        held[name].copy_(local_part(parameter, _entry(saved, name, directory), ranks))


def _entry(saved: Mapping[str, Tensor], name: str, directory: Path) -> Tensor:
    if name not in saved:
        raise CheckpointError(
            f"checkpoint {str(directory)!r} has no {name!r}; was the code of the model changed meanwhile?"
        )
    return saved[name]


def persistent_buffers(module: torch.nn.Module) -> dict[str, Tensor]:
    """The buffers that belong to a module's state, by name. Not copies."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return {name: value for name, value in module.state_dict(keep_vars=True).items() if name not in parameters}
