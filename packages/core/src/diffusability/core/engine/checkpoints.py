"""Checkpoints that are visible only when whole, and are checked for that before they are used."""

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import CheckpointError

MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d{8})")


@attrs.frozen(kw_only=True, eq=False)
class Restored:
    """What a checkpoint held besides the engine's own state."""

    step: int
    state: dict[str, Any]
    averages: dict[str, Tensor] | None


class Checkpoints:
    """The checkpoints of one training stage.

    A checkpoint is written into a hidden folder, its files are listed with their sizes in a manifest, and one rename
    makes it visible. An interrupted one is never seen; one that lost bytes later does not match its manifest.
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

    def save(self, engine: Any, step: int, state: dict[str, Any], averages: dict[str, Tensor] | None) -> None:
        """Writes a checkpoint from all ranks; older ones beyond ``keep`` are removed afterwards.

        Raises:
            CheckpointError: there is no room, or the folder cannot be written. Earlier checkpoints are untouched.
        """
        final = self.path(step)
        if final.is_dir():
            return
        working = self.directory / ".writing"
        failure: OSError | RuntimeError | None = None
        if self.ranks.is_main:
            shutil.rmtree(working, ignore_errors=True)
            working.mkdir(parents=True)
        self.ranks.barrier()
        try:
            engine.save_checkpoint(str(working), tag=final.name, client_state=state, save_latest=False)
            if averages is not None and self.ranks.is_main:
                save_file(averages, working / final.name / "ema.safetensors")
        except (OSError, RuntimeError) as error:
            failure = error
        if self.ranks.any(failure is not None):
            if self.ranks.is_main:
                shutil.rmtree(working, ignore_errors=True)
            raise CheckpointError(_save_failure(final, failure)) from failure
        if self.ranks.is_main:
            _write_manifest(working / final.name)
            os.replace(working / final.name, final)
            shutil.rmtree(working, ignore_errors=True)
            for old in self.steps()[: -self.keep]:
                shutil.rmtree(self.path(old))
        self.ranks.barrier()

    def restore(self, engine: Any) -> tuple[Restored | None, list[str]]:
        """Loads the newest whole checkpoint into the engine.

        Returns:
            What it held (None when there is no whole one), and a sentence about each that was skipped.
        """
        skipped = []
        for step in reversed(self.steps()):
            fault = _fault(self.path(step))
            if fault is not None:
                skipped.append(f"checkpoint {self.path(step).name} is not whole and was skipped: {fault}")
                continue
            path, state = engine.load_checkpoint(str(self.directory), tag=self.path(step).name)
            if path is None:
                raise CheckpointError(f"DeepSpeed could not load checkpoint {str(self.path(step))!r}")
            averages_file = self.path(step) / "ema.safetensors"
            averages = load_file(averages_file, device=str(self.ranks.device)) if averages_file.is_file() else None
            return Restored(step=step, state=state["diffusability"], averages=averages), skipped
        return None, skipped


def _save_failure(final: Path, failure: Exception | None) -> str:
    if isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk is full"
    elif failure is not None:
        reason = f"{type(failure).__name__}: {failure}"
    else:
        reason = "another rank failed to write its part"
    free = shutil.disk_usage(final.parent if final.parent.is_dir() else Path.cwd()).free
    return (
        f"checkpoint {final.name} could not be written: {reason} ({free / 2**30:.1f} GiB free); earlier ones are intact"
    )


def _write_manifest(folder: Path) -> None:
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    for name in sizes:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    (folder / MANIFEST).write_text(json.dumps({"torch": torch.__version__, "bytes": sizes}, indent=2) + "\n")


def _fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint on disk, or None."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text())["bytes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {MANIFEST} cannot be read ({type(error).__name__})"
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    return None
