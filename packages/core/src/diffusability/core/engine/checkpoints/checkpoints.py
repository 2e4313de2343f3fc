"""Checkpoints that are visible only when whole, and are checked for that before they are used."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import attrs
import torch
from safetensors import SafetensorError

from diffusability.core.checksums import crc32_of
from diffusability.core.engine.checkpoints.engine_state import load_engine, save_engine
from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import CheckpointError

MANIFEST = "manifest.json"
#: Of the files in a checkpoint. Another one was written by other code, and is not continued.
_FORMAT = 3
_NAME = re.compile(r"step-(\d{8})")


@attrs.frozen(kw_only=True)
class Layout:
    """How many ranks train, and what of the engine they share out."""

    num_ranks: int
    zero_stage: int

    def __str__(self) -> str:
        return f"{self.num_ranks} rank{'s' if self.num_ranks > 1 else ''} at ZeRO stage {self.zero_stage}"


@attrs.frozen(kw_only=True, eq=False)
class Restored:
    """What a checkpoint held besides the engine's own state."""

    step: int
    state: dict[str, Any]


@runtime_checkable
class CheckpointPart(Protocol):
    """Something beside the engine that a checkpoint keeps, in a folder of its own.

    Each method is called on all ranks; one that takes all ranks together does so before it writes, which may fail.
    """

    def write(self, folder: Path) -> None:
        """Writes it into an existing, empty folder."""

    def read(self, folder: Path) -> None:
        """Takes over what was written, by any number of ranks."""


class Checkpoints:
    """The checkpoints of one training stage.

    A checkpoint is written into a hidden folder, its files are listed with their sizes and checksums in a manifest, and
    one rename makes it visible. An interrupted one is never seen; one whose bytes were lost or changed later does not
    match its manifest.
    """

    def __init__(self, directory: Path, ranks: Ranks, keep: int) -> None:
        self.directory = directory
        self.ranks = ranks
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps of the visible checkpoints, ascending."""
        if not self.directory.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self.directory.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def path(self, step: int) -> Path:
        """Folder of the checkpoint after that many optimizer steps."""
        return self.directory / f"step-{step:08d}"

    def save(self, engine: Any, step: int, state: dict[str, Any], parts: Mapping[str, CheckpointPart]) -> None:
        """Writes a checkpoint from all ranks; older ones beyond ``keep`` are removed afterwards.

        Raises:
            CheckpointError: there is no room, or the folder cannot be written. Earlier checkpoints are untouched.
        """
        final = self.path(step)
        if final.is_dir():  # `newest` has put aside what is not whole
            return
        working = self.directory / ".writing"
        layout = Layout(num_ranks=self.ranks.size, zero_stage=engine.zero_optimization_stage())
        if self.ranks.is_main:
            shutil.rmtree(working, ignore_errors=True)
            for name in ("", *parts):
                (working / name).mkdir(parents=True)
        self.ranks.barrier()

        def write() -> None:
            save_engine(engine, working, self.ranks)
            torch.save(state, working / _state_file(self.ranks.rank))

        checksums: dict[str, int] = {}

        def read_back() -> None:
            """Each rank sums up what it wrote, the first one also what all of them share."""
            own, other = re.compile(rf".*-{self.ranks.rank:05d}\..*"), re.compile(r".*-\d{5}\..*")
            for path in sorted(path for path in working.rglob("*") if path.is_file()):
                if own.fullmatch(path.name) or (self.ranks.is_main and not other.fullmatch(path.name)):
                    checksums[str(path.relative_to(working))] = crc32_of(path)

        def publish() -> None:
            _write_manifest(working, layout, {name: crc for part in every for name, crc in part.items()})
            os.replace(working, final)

        steps: list[Callable[[], None]] = [
            write,
            *(partial(part.write, working / name) for name, part in parts.items()),
            read_back,
        ]
        failure, failed = None, False
        for action in steps:  # a rank that fails must not leave the others waiting in the next
            failure = _failure_of(action)
            failed = self.ranks.any(failure is not None)
            if failed:
                break
        if not failed:
            every = self.ranks.gathered(checksums)
            failure = _failure_of(publish) if self.ranks.is_main else None
            failed = self.ranks.any(failure is not None)
        if failed:
            if self.ranks.is_main:
                shutil.rmtree(working, ignore_errors=True)
            raise CheckpointError(_save_failure(final, failure)) from failure
        if self.ranks.is_main:
            for old in self.steps()[: -self.keep]:
                shutil.rmtree(self.path(old))
        self.ranks.barrier()

    def newest(self) -> tuple[int | None, list[str]]:
        """Step of the newest whole checkpoint, if there is one, and a sentence about each that is not whole.

        Those are put aside under another name, so that they neither count nor stand in the way. All ranks must call it.
        """
        newest_step: int | None = None
        skipped: list[str] = []
        if self.ranks.is_main:
            for step in reversed(self.steps()):
                fault = _fault(self.path(step))
                if fault is None:
                    newest_step = step
                    break
                skipped.append(f"checkpoint {self.path(step).name} is not whole and was skipped: {fault}")
                aside = self.directory / f"damaged-{self.path(step).name}"
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(self.path(step), aside)
        return self.ranks.gathered((newest_step, skipped))[0]

    def remove(self) -> None:
        """Removes all checkpoints of the stage. All ranks must call it."""
        if self.ranks.is_main:
            shutil.rmtree(self.directory, ignore_errors=True)
        self.ranks.barrier()

    def written_by(self, step: int) -> Layout:
        """The ranks and the ZeRO stage that wrote a whole checkpoint."""
        manifest = _manifest(self.path(step))
        return Layout(num_ranks=manifest["num_ranks"], zero_stage=manifest["zero_stage"])

    def restore(self, engine: Any, step: int, parts: Mapping[str, CheckpointPart]) -> Restored:
        """Loads a whole checkpoint into the engine and the parts, on any number of ranks and at any ZeRO stage.

        Raises:
            CheckpointError: it lacks a part, or a parameter of the engine's module.
        """
        path = self.path(step)
        load_engine(engine, path, self.ranks)
        own = path / _state_file(self.ranks.rank)
        is_mine = self.written_by(step).num_ranks == self.ranks.size
        state = torch.load(own if is_mine else path / _state_file(0), weights_only=True)
        for name, part in parts.items():
            if not (path / name).is_dir():
                raise CheckpointError(f"checkpoint {str(path)!r} lacks {name!r}")
            part.read(path / name)
        self.ranks.barrier()
        return Restored(step=step, state=state)


def _state_file(rank: int) -> str:
    return f"state-{rank:05d}.pt"


def _manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return content


def _failure_of(write: Callable[[], None]) -> Exception | None:
    """What went wrong while writing, or None. Libraries wrap a full disk in errors of their own."""
    try:
        write()
    except (OSError, RuntimeError, SafetensorError) as error:
        return error
    return None


def _save_failure(final: Path, failure: Exception | None) -> str:
    reason = f"{type(failure).__name__}: {failure}" if failure is not None else "another rank failed to write its part"
    if "no space left" in reason.lower() or (isinstance(failure, OSError) and failure.errno == errno.EDQUOT):
        reason = "the disk is full"
    free = shutil.disk_usage(final.parent if final.parent.is_dir() else Path.cwd()).free
    return (
        f"checkpoint {final.name} could not be written: {reason} ({free / 2**30:.1f} GiB free); earlier ones are intact"
    )


def _write_manifest(folder: Path, layout: Layout, checksums: Mapping[str, int]) -> None:
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    for name in sizes:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    content = {
        "format": _FORMAT,
        "torch": torch.__version__,
        **attrs.asdict(layout),
        "bytes": sizes,
        "crc32": checksums,
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def _fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint on disk, or None."""
    try:
        manifest = _manifest(folder)
        sizes, checksums = manifest["bytes"], manifest.get("crc32", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MANIFEST} cannot be read ({type(error).__name__})"
    if manifest.get("format") != _FORMAT:
        return f"it has format {manifest.get('format', 1)!r}, and format {_FORMAT} is read"
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    return _damage(folder, checksums)


def _damage(folder: Path, checksums: Mapping[str, int]) -> str | None:
    """Which file's bytes are others than were written, or None. Reads all of them."""
    for name, checksum in checksums.items():  # absent from checkpoints of earlier versions
        try:
            actual = crc32_of(folder / name)
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if actual != checksum:
            return f"{name} has changed since it was written (CRC-32 {actual:08x} instead of {checksum:08x})"
    return None
