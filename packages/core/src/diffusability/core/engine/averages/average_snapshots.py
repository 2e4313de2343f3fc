"""Snapshots of power-function averages, taken while training, and what is made of them afterwards."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffusability.core.checksums import crc32s_of, verify
from diffusability.core.engine.averages.ema import PowerFunctionAverage
from diffusability.core.engine.checkpoints.engine_state import persistent_buffers
from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import CheckpointError
from diffusability.core.numerics.power_function import gamma_of, reconstruction_coefficients
from diffusability.core.reading import reading
from diffusability.core.writing import replacing

FOLDER = "ema-snapshots"
_NAME = re.compile(r"step-(\d{8})-sigma-rel-.+\.safetensors")
_BUFFER = "buffer/"
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@attrs.frozen(kw_only=True, eq=False)
class SnapshotWriter:
    """A hook of the training loop that writes each average now and then, whole, from the first rank.

    Attributes:
        folder: where they go.
        averages: what is written.
        ranks: this process among the others.
        every: optimizer steps between snapshots.
        last_step: the stage's last step, which makes one too.
        dtype: precision on disk, ``fp32`` or ``fp16``.
    """

    folder: Path
    averages: Sequence[PowerFunctionAverage]
    ranks: Ranks
    every: int
    last_step: int
    dtype: str

    def forget_after(self, step: int) -> None:
        """Removes snapshots of later steps, which a resumed run will take again."""
        for path in self.folder.glob("step-*"):
            match = _NAME.fullmatch(path.name)
            if match is None or int(match[1]) > step:
                path.unlink()

    def __call__(self, done: int) -> None:
        """Writes the snapshots of a step where one is due. All ranks must call it."""
        if done % self.every and done != self.last_step:
            return
        for average in self.averages:
            whole = average.gathered()
            if self.ranks.is_main and average.num_updates > 0:
                self._write(average, whole, done)

    def _write(self, average: PowerFunctionAverage, whole: Mapping[str, Tensor], done: int) -> None:
        tensors = {name: value.to(_DTYPES[self.dtype]) for name, value in whole.items()}
        for name, buffer in persistent_buffers(average.module).items():
            tensors[_BUFFER + name] = buffer.detach().cpu().contiguous()
        facts: dict[str, object] = {"step": done, "num_updates": average.num_updates, "sigma_rel": average.sigma_rel}
        facts["crc32"] = crc32s_of(tensors)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{done:08d}-{average.label}.safetensors"
        try:
            with replacing(path) as partial:
                save_file(tensors, partial, {"facts": json.dumps(facts, allow_nan=False)})
        except SafetensorError as error:  # it wraps a full disk
            raise CheckpointError(f"snapshot {path.name!r} could not be written: {error}") from error


@attrs.frozen(kw_only=True)
class _Snapshot:
    path: Path
    step: int
    num_updates: int
    sigma_rel: float


@attrs.frozen(kw_only=True)
class Synthesis:
    """An average of a chosen width, as a sum of stored snapshots.

    Attributes:
        step: the optimizer step after which it stands.
        sigma_rel: its width.
        terms: each snapshot's file with its coefficient.
    """

    step: int
    sigma_rel: float
    terms: Sequence[tuple[Path, float]]

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights by parameter, in float32, with the buffers of the last snapshot.

        Raises:
            CheckpointError: a snapshot is damaged.
        """
        sums: dict[str, Tensor] = {}
        tensors: dict[str, Tensor] = {}
        for path, coefficient in self.terms:
            tensors = _tensors_of(path)
            for name, tensor in tensors.items():
                if not name.startswith(_BUFFER):
                    value = tensor.double() * coefficient
                    sums[name] = sums[name] + value if name in sums else value
        weights = {name: value.float() for name, value in sums.items()}
        buffers = {name: tensor for name, tensor in tensors.items() if name.startswith(_BUFFER)}
        return weights | {name.removeprefix(_BUFFER): tensor for name, tensor in buffers.items()}


def synthesis(folder: Path, sigma_rel: float, step: int | None = None) -> Synthesis:
    """Finds how to make the average of width ``sigma_rel`` from the snapshots in a folder.

    Args:
        folder: holds what a SnapshotWriter wrote.
        sigma_rel: the width, in (0, 0.2886].
        step: stand after this step, which has snapshots; default: the last one.

    Raises:
        CheckpointError: there are no snapshots, none of that step, or one that cannot be read.
    """
    snapshots = sorted(
        (_read(path) for path in folder.glob("*.safetensors")), key=lambda snapshot: (snapshot.step, snapshot.path)
    )
    if not snapshots:
        raise CheckpointError(
            f"no snapshots in {str(folder)!r}; a stage leaves them there when its spec has ema.power_function"
        )
    steps = sorted({snapshot.step for snapshot in snapshots})
    step = steps[-1] if step is None else step
    if step not in steps:
        raise CheckpointError(f"no snapshot after step {step}; there are snapshots after {', '.join(map(str, steps))}")
    known = [snapshot for snapshot in snapshots if snapshot.step <= step]
    coefficients = reconstruction_coefficients(
        [snapshot.num_updates for snapshot in known],
        [gamma_of(snapshot.sigma_rel) for snapshot in known],
        known[-1].num_updates,
        gamma_of(sigma_rel),
    )
    terms = [(snapshot.path, float(coefficient)) for snapshot, coefficient in zip(known, coefficients, strict=True)]
    return Synthesis(step=step, sigma_rel=sigma_rel, terms=terms)


def _read(path: Path) -> _Snapshot:
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            facts.pop("crc32", None)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"snapshot {str(path)!r} cannot be read; it may be cut short: {error}") from None
    return _Snapshot(path=path, **facts)


def _tensors_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a snapshot, compared with their sums; snapshots of earlier versions have none."""
    with reading("snapshot, cut short or damaged:", path, CheckpointError), safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file of tensors is not a mapping
        sums = json.loads(file.metadata()["facts"]).get("crc32")
        if sums is not None:
            verify(tensors, sums)
    return tensors
