"""Checkpoints that are visible only when whole, and are checked for that before they are used."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import CheckpointError

MANIFEST = "manifest.json"
#: What a ZeRO stage shards in a checkpoint; DeepSpeed converts between stages that shard the same.
_EXCHANGEABLE = {0: "nothing", 1: "optimizer", 2: "optimizer", 3: "weights"}
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
        if final.is_dir():  # `newest` has put aside what is not whole
            return
        working = self.directory / ".writing"
        layout = {"num_ranks": self.ranks.size, "zero_stage": engine.zero_optimization_stage()}
        if self.ranks.is_main:
            shutil.rmtree(working, ignore_errors=True)
            working.mkdir(parents=True)
        self.ranks.barrier()

        def write() -> None:
            engine.save_checkpoint(str(working), tag=final.name, client_state=state, save_latest=False)
            if averages is not None and self.ranks.is_main:
                save_file(averages, working / final.name / "ema.safetensors")

        def publish() -> None:
            _write_manifest(working / final.name, layout)
            os.replace(working / final.name, final)

        failure = _failure_of(write)
        if not self.ranks.any(failure is not None):
            failure = _failure_of(publish) if self.ranks.is_main else None
        if self.ranks.any(failure is not None):
            if self.ranks.is_main:
                shutil.rmtree(working, ignore_errors=True)
            raise CheckpointError(_save_failure(final, failure)) from failure
        if self.ranks.is_main:
            shutil.rmtree(working, ignore_errors=True)
            for old in self.steps()[: -self.keep]:
                shutil.rmtree(self.path(old))
        self.ranks.barrier()

    def newest(self) -> tuple[int | None, list[str]]:
        """Step of the newest whole checkpoint, if there is one, and a sentence about each that is not whole.

        Those are put aside under another name, so that they neither count nor stand in the way. All ranks must call it.
        """
        found: int | None = None
        skipped: list[str] = []
        if self.ranks.is_main:
            for step in reversed(self.steps()):
                fault = _fault(self.path(step))
                if fault is None:
                    found = step
                    break
                skipped.append(f"checkpoint {self.path(step).name} is not whole and was skipped: {fault}")
                aside = self.directory / f"damaged-{self.path(step).name}"
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(self.path(step), aside)
        return self.ranks.gathered((found, skipped))[0]

    def is_foreign(self, step: int, zero_stage: int) -> bool:
        """True when a checkpoint must be converted to fit this number of ranks at this ZeRO stage.

        Without sharding, any number of ranks can load it.

        Raises:
            CheckpointError: it was written at a stage that DeepSpeed cannot convert to this one.
        """
        manifest = _manifest(self.path(step))
        wrote, now = (manifest["num_ranks"], manifest["zero_stage"]), (self.ranks.size, zero_stage)
        if wrote == now or wrote[1] == now[1] == 0:
            return False
        if _EXCHANGEABLE[wrote[1]] != _EXCHANGEABLE[now[1]]:
            raise CheckpointError(
                f"checkpoint {str(self.path(step))!r} was written at ZeRO stage {wrote[1]}, and cannot be continued at"
                f" stage {now[1]}: only stages 1 and 2 can be exchanged; run it with engine.zero_stage {wrote[1]}, on"
                " any number of ranks, or remove the stage's checkpoints to train it anew"
            )
        return True

    def restore(self, engine: Any, step: int, converted: bool) -> Restored:
        """Loads a whole checkpoint into the engine, by way of DeepSpeed's universal format when ``converted``.

        An engine that is to load a converted one must have been initialised for that.
        """
        directory = self.directory / ".universal" if converted else self.directory
        if converted and self.ranks.is_main:
            shutil.rmtree(directory, ignore_errors=True)
            convert_to_universal(self.path(step), directory / self.path(step).name)
        self.ranks.barrier()
        path, state = engine.load_checkpoint(str(directory), tag=self.path(step).name)
        if path is None:
            raise CheckpointError(f"DeepSpeed could not load checkpoint {str(self.path(step))!r}")
        self.ranks.barrier()
        if converted and self.ranks.is_main:
            shutil.rmtree(directory)
        averages_file = self.path(step) / "ema.safetensors"
        averages = load_file(averages_file, device=str(self.ranks.device)) if averages_file.is_file() else None
        return Restored(step=step, state=state["diffusability"], averages=averages)


def convert_to_universal(source: Path, target: Path) -> None:
    """Converts a sharded checkpoint so that any number of ranks at any sharded stage can load it.

    Raises:
        CheckpointError: DeepSpeed's converter failed; with the last line that it printed.
    """
    target.mkdir(parents=True)
    words = ["--input_folder", str(source), "--output_folder", str(target), "--inject_missing_state"]
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise CheckpointError(f"checkpoint {str(source)!r} could not be converted for this number of ranks: {last}")


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


def _write_manifest(folder: Path, layout: dict[str, int]) -> None:
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    for name in sizes:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    (folder / MANIFEST).write_text(json.dumps({"torch": torch.__version__, **layout, "bytes": sizes}, indent=2) + "\n")


def _fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint on disk, or None."""
    try:
        sizes = _manifest(folder)["bytes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {MANIFEST} cannot be read ({type(error).__name__})"
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    return None
