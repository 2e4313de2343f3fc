"""Stages that begin where an earlier one of the same name stopped, or start over, and why.

Free of torch.
"""

import json
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from diffusability.core.planning.changed_fields import changed_fields
from diffusability.core.planning.plan import PlannedStage, digest_of
from diffusability.core.run.folder_writer import IDENTITY, RunFolder, read_json, write_json
from diffusability.core.specs.stages import TrainStage
from diffusability.core.writing import replacing_folder

_CHECKPOINT = re.compile(r"step-(\d{8})")
#: What a stage that goes on takes over besides the checkpoint, by pattern.
_TAKEN_OVER = ("metrics.jsonl", "samples/*", "ema-snapshots/*", "remarks.json", "unreadable.txt")
_MOST_SHOWN = 3


@attrs.frozen(kw_only=True)
class Earlier:
    """The recorded stage that is nearest to a planned one.

    Attributes:
        directory: its folder.
        changed: fields that differ, with their values before and now.
        step: the newest checkpoint from which the planned stage goes on, or None where it starts over.
    """

    directory: Path
    changed: Mapping[str, tuple[Any, Any]]
    step: int | None

    def __str__(self) -> str:
        if self.step is not None:
            before, now = self.changed["steps"]
            return f"continue: {before} -> {now} steps"
        shown = [f"{path} {_short(before)} -> {_short(now)}" for path, (before, now) in self.changed.items()]
        more = len(shown) - _MOST_SHOWN
        return "redo: " + ", ".join(shown[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def earlier_stage(stage: PlannedStage, folder: RunFolder, planned: Collection[str]) -> Earlier | None:
    """The stage of the same name in this run that differs least; None where there is none, or this very one.

    Args:
        stage: the stage.
        folder: the run.
        planned: names of the folders of all planned stages, which are themselves and nobody's earlier ones.
    """
    own = folder.stage(stage)
    if own.is_dir():
        return None
    candidates = []
    for directory in sorted(own.parent.glob(f"{stage.name}-????????")):
        recorded = read_json(directory / IDENTITY)
        if recorded and directory.name not in planned:
            changed = changed_fields(recorded, stage)
            candidates.append((len(changed), -directory.stat().st_mtime, directory, changed))
    if not candidates:
        return None
    _, _, directory, changed = min(candidates, key=lambda candidate: candidate[:2])
    return Earlier(directory=directory, changed=changed, step=_continues_from(stage, directory, changed))


def _continues_from(stage: PlannedStage, directory: Path, changed: Mapping[str, tuple[Any, Any]]) -> int | None:
    """The newest checkpoint of a stage that differs from this one in having fewer steps."""
    if not isinstance(stage.spec, TrainStage) or set(changed) != {"steps"}:
        return None
    before, now = changed["steps"]
    if not before < now:
        return None
    names = [_CHECKPOINT.fullmatch(path.name) for path in directory.glob("checkpoints/step-*")]
    return max((int(name[1]) for name in names if name), default=None)


def take_over(stage: PlannedStage, folder: RunFolder, planned: Collection[str]) -> str | None:
    """Lets a stage that only has more steps begin with the newest checkpoint of the earlier one, and its log so far.

    The earlier folder stays as it is; files are linked where the file system allows it. To be called on one rank,
    before the folder of the stage is made.

    Returns:
        What was done, in a sentence, or None.
    """
    earlier = earlier_stage(stage, folder, planned)
    if earlier is None or earlier.step is None:
        return None
    target = folder.stage(stage)
    checkpoint = f"checkpoints/step-{earlier.step:08d}"
    with replacing_folder(target) as working:
        shutil.copytree(earlier.directory / checkpoint, working / checkpoint, copy_function=_linked)
        for pattern in _TAKEN_OVER:
            for path in earlier.directory.glob(pattern):
                place = working / path.relative_to(earlier.directory)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, place)  # logs grow: they are copied
    before, now = earlier.changed["steps"]
    return f"goes on after step {earlier.step} of {earlier.directory.name}, which had {before} steps; now {now}"


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def adoptable(
    stages: Sequence[PlannedStage], folder: RunFolder, planned: Collection[str]
) -> dict[str, tuple[PlannedStage, Path]]:
    """Stages that were run before and only lack fields that came with later versions, by their digests then.

    Stages are given in the order in which they run: one that uses such a stage is compared by its digest then.
    """
    digests: dict[str, str] = {}
    adopted = {}
    for stage in stages:
        earlier = earlier_stage(stage, folder, planned)
        if earlier is None:
            continue
        inputs = {f"inputs.{name}": (digests.get(used.digest), used.digest) for name, used in stage.inputs.items()}
        if all(inputs.get(path) == change for path, change in earlier.changed.items()):
            digests[stage.digest] = digest_of(read_json(earlier.directory / IDENTITY))
            adopted[digests[stage.digest]] = (stage, earlier.directory)
    return adopted


def adopt(stages: Sequence[PlannedStage], folder: RunFolder, planned: Collection[str]) -> None:
    """Gives the folders of such stages the names and digests that they have now, so that what is done stays done."""
    for stage, directory in adoptable(stages, folder, planned).values():
        done = read_json(directory / "done.json")
        if done:
            write_json(directory / "done.json", {**done, "digest": stage.digest})
        write_json(directory / IDENTITY, json.loads(json.dumps(stage.identity, default=str)))
        os.rename(directory, folder.stage(stage))


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
