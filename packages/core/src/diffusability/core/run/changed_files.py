"""What a stage's files held when it began, and stages that are to be done again because they hold something else.

Free of torch.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console

from diffusability.core.errors import DataError
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.reading import parsed_json
from diffusability.core.run.file_samples import changed_file, write_samples
from diffusability.core.run.folder_writer import RunFolder, write_json
from diffusability.core.specs.base import PluginSpec, SpecPath
from diffusability.core.specs.components import TrackerSpec
from diffusability.core.specs.files.contents import Contents, FileSet, contents
from diffusability.core.specs.stages import EncodeStage

RECORD = "contents.json"
#: Where, in a run's folder, the folders of stages are kept that were made of other files.
OUTDATED = "outdated"


def contents_of(stage: PlannedStage, known: dict[str, dict[str, Contents]] | None = None) -> dict[str, Contents]:
    """What the files of a stage hold, by the place in the spec that names them; what is not there is left out.

    Args:
        stage: the stage.
        known: what was found for the same spec in another stage; filled here.

    Raises:
        DataError: a file or folder is there and cannot be read; names it.
    """
    by_name = {}
    known = {} if known is None else known
    for place, spec in _specs_of(stage):
        key = f"{type(spec).__name__} {spec.identity()}"
        if key not in known:
            known[key] = _contents_of_spec(spec)
        by_name.update({".".join(map(str, (*place, name))): held for name, held in known[key].items()})
    return by_name


def _specs_of(stage: PlannedStage) -> Iterator[tuple[SpecPath, PluginSpec]]:
    """Every spec of a stage that may name files, with its place."""
    parts: list[tuple[tuple[str | int, ...], Any]] = [((), stage.spec)]
    if stage.spec.data is None:
        parts.append((("data",), stage.data))
    for base, part in parts:
        for path, spec in part.walk():
            if isinstance(spec, PluginSpec) and not isinstance(spec, TrackerSpec):
                yield (*base, *path), spec


def _file_sets(stage: PlannedStage) -> dict[str, FileSet]:
    """The files of a stage, by the place in the spec that names them."""
    return {
        ".".join(map(str, (*place, name))): files
        for place, spec in _specs_of(stage)
        for name, files in spec.files_read().items()
    }


def _contents_of_spec(spec: PluginSpec) -> dict[str, Contents]:
    by_name = {}
    for name, files in spec.files_read().items():
        try:
            by_name[name] = contents(files)
        except OSError as error:
            raise DataError(f"{error.filename or str(files.root)!r} cannot be read: {error.strerror}") from None
    return by_name


def record_contents(stage: PlannedStage, folder: RunFolder) -> None:
    """Writes ``contents.json`` into the folder of a stage that begins; one that resumes keeps the file.

    Encoding writes it again: each of its shards says itself what it was made of.
    """
    if isinstance(stage.spec, EncodeStage) or not (folder.stage(stage) / RECORD).is_file():
        files = {name: attrs.asdict(held) for name, held in contents_of(stage).items()}
        inputs = {name: _record_digest(folder.stage(used)) for name, used in stage.inputs.items()}
        write_json(folder.stage(stage) / RECORD, {"files": files, "inputs": inputs})
        try:
            write_samples(folder.stage(stage), _file_sets(stage))
        except OSError as error:
            raise DataError(f"{error.filename!r} cannot be read: {error.strerror}") from None


def changes(stages: Sequence[PlannedStage], folder: RunFolder) -> dict[str, str]:
    """Why stages that were begun are to be done again, by the names of their folders; nothing of all others.

    A stage of an earlier version, without a record, counts as unchanged. So do files that are not on this machine, and
    an encoding that was interrupted: its shards are compared one by one, and others are refused.

    Raises:
        DataError: a file or folder is there and cannot be read.
    """
    reasons: dict[str, str] = {}
    known: dict[str, dict[str, Contents]] = {}
    for stage in stages:
        record = _read(folder.stage(stage))
        if record is None or (isinstance(stage.spec, EncodeStage) and not folder.is_done(stage)):
            continue
        reason = _changed_input(stage, record, folder, reasons)
        reason = reason or _changed_files(record, contents_of(stage, known), stage, folder)
        if reason:
            reasons[stage.directory_name] = reason
    return reasons


def set_aside_changed(stages: Sequence[PlannedStage], folder: RunFolder, console: Console) -> None:
    """Moves the folders of stages whose files have changed to ``outdated``, so that they are done again, and says why.

    The run's cache of what is computed of real images is removed with them. Stages that were begun by an earlier
    version get a record of what their files hold now.

    Raises:
        DataError: a file or folder is there and cannot be read.
    """
    reasons = changes(stages, folder)
    for stage in stages:
        directory = folder.stage(stage)
        if stage.directory_name not in reasons:
            if directory.is_dir() and not (directory / RECORD).is_file():
                record_contents(stage, folder)
            continue
        kept = _free_name(folder.root / OUTDATED / stage.directory_name)
        kept.parent.mkdir(exist_ok=True)
        os.rename(directory, kept)
        console.print(
            f"{stage.name} ({', '.join(stage.variants)}) is done again: {reasons[stage.directory_name]}; what was there"
            f" is kept as {str(kept)!r}",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if reasons:
        shutil.rmtree(folder.cache, ignore_errors=True)


def _changed_input(
    stage: PlannedStage, record: Mapping[str, Any], folder: RunFolder, reasons: Mapping[str, str]
) -> str | None:
    for name, used in stage.inputs.items():
        recorded, now = record["inputs"].get(name), _record_digest(folder.stage(used))
        if used.directory_name in reasons or (recorded and now and recorded != now):
            return f"stage {name!r}, which it uses, is made of other files than before"
    return None


def _changed_files(
    record: Mapping[str, Any], held: Mapping[str, Contents], stage: PlannedStage, folder: RunFolder
) -> str | None:
    for name, now in held.items():
        recorded = record["files"].get(name)
        if recorded is not None and recorded["digest"] != now.digest:
            example = changed_file(folder.stage(stage), name, _file_sets(stage)[name])
            return f"{name} held {Contents(**recorded)} when it began, and holds {now}" + (
                f": {example}" if example else ""
            )
    return None


def _read(directory: Path) -> dict[str, Any] | None:
    """What a stage's record says; None without a readable one."""
    try:
        record = parsed_json((directory / RECORD).read_text())
        known = {name: Contents(**held) for name, held in record["files"].items()}
        return {"files": {name: attrs.asdict(held) for name, held in known.items()}, "inputs": dict(record["inputs"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _record_digest(directory: Path) -> str | None:
    record = _read(directory)
    return None if record is None else hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:32]


def _free_name(directory: Path) -> Path:
    number = 1
    while (free := directory.with_name(f"{directory.name}-{number}")).exists():
        number += 1
    return free
