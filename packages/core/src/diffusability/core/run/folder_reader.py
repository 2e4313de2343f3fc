"""What a run leaves behind, read for the report. Only a folder that is not a run is an error; the rest is noted."""

import fcntl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml
from pydantic import ValidationError

from diffusability.core.errors import DataError
from diffusability.core.reading import parsed_json
from diffusability.core.run.remarks import read_remarks
from diffusability.core.run.results import Metric, finite, parse_metrics
from diffusability.core.run.run_record import read_record
from diffusability.core.run.training_log import Series, read_training_log
from diffusability.core.run.values_file import VALUES_FILE, KeptValues, read_values
from diffusability.core.specs.table import TableSpec

STATUSES = ("done", "running", "failed", "interrupted", "pending")


@attrs.frozen(kw_only=True, eq=False)
class Stage:
    """A stage of a variant.

    Attributes:
        name: its name in the spec.
        kind: ``train``, ``encode`` or ``evaluate``.
        status: one of ``STATUSES``, or what the run says instead.
        seconds: how long it took, or None.
        directory: its folder, or None when the run names none. Variants that share a stage share the folder.
        metrics: its results, by stable name.
        log: its training curves, by key.
        num_steps: optimizer steps that it is to take, or None.
        trains_on: digest of the stage whose latents it trains on; empty where it trains on images, or none is named.
        remarks: what a reader must know before its numbers, in sentences.
        kept: its metrics sample by sample; empty where none were kept.
    """

    name: str
    kind: str
    status: str
    seconds: float | None = None
    directory: Path | None = None
    metrics: Mapping[str, Metric] = attrs.field(factory=dict)
    log: Mapping[str, Series] = attrs.field(factory=dict)
    num_steps: int | None = None
    trains_on: str = ""
    remarks: Sequence[str] = ()
    kept: KeptValues = attrs.field(factory=KeptValues)


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """A run folder.

    Attributes:
        directory: the folder.
        name: name of the run.
        created: when it began, as ISO 8601; empty when not known.
        command: the command line that began it.
        versions: versions of packages, by name.
        variants: the stages of each variant, by name, in order; a variant with several seeds once for each.
        spec: the text of ``spec.yaml``, or None.
        notes: what could not be read.
        seeds: variant of the spec and seed of each of them; those of runs that recorded none are missing.
        table: the table of the results, or None.
        overrides: what ``--set`` has changed of each variant.
    """

    directory: Path
    name: str
    created: str
    command: str
    versions: Mapping[str, str]
    variants: Mapping[str, Mapping[str, Stage]]
    spec: str | None
    notes: list[str]
    seeds: Mapping[str, tuple[str, int]] = attrs.field(factory=dict)
    table: TableSpec | None = None
    overrides: Mapping[str, Sequence[str]] = attrs.field(factory=dict)


def read_run(directory: Path) -> Run:
    """Reads a run folder, finished or not.

    Raises:
        SpecError: it does not exist, has no ``run.json``, or that file is not a JSON object.
    """
    record = read_record(directory)
    notes: list[str] = []
    abandoned = is_abandoned(directory)
    results = _read_json(directory / "results.json", notes)
    results = _mapping(_mapping(results, "results.json", notes).get("variants"), "results.json: variants", notes)
    recorded = _mapping(record.get("variants"), "run.json: variants", notes)
    variants = {}
    for variant in dict.fromkeys([*recorded, *results]):
        stages = _mapping(recorded.get(variant), f"run.json: variant {variant!r}", notes)
        metrics = _mapping(results.get(variant), f"results.json: variant {variant!r}", notes)
        variants[str(variant)] = {
            str(name): _read_stage(
                str(name),
                _mapping(stages.get(name), f"run.json: stage {name!r} of {variant!r}", notes),
                parse_metrics(metrics.get(name), f"results.json: stage {name!r} of {variant!r}", notes),
                directory,
                notes,
                abandoned,
            )
            for name in dict.fromkeys([*stages, *metrics])
        }
    versions = _mapping(record.get("versions"), "run.json: versions", notes)
    seeds = _seeds(_mapping(record.get("variant_seeds"), "run.json: variant_seeds", notes))
    table = _table(record.get("table"), notes)
    return Run(
        directory=directory,
        name=str(record.get("name") or directory.resolve().name),
        created=str(record.get("created") or ""),
        command=str(record.get("command") or ""),
        versions={str(package): str(version) for package, version in versions.items()},
        variants=variants,
        spec=_read_text(directory / "spec.yaml"),
        notes=list(dict.fromkeys(notes)),
        seeds=seeds,
        table=table,
        overrides=_overrides(_mapping(record.get("overrides"), "run.json: overrides", notes)),
    )


def is_abandoned(directory: Path) -> bool:
    """True when no process works in a run's folder any more: its lock, which dies with its holders, is free.

    A process that was killed leaves the word ``running`` in ``run.json``. False also when nobody can tell, as in a copy
    without the lock.
    """
    try:
        with (directory / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _seeds(record: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    return {
        str(variant): (entry["base"], entry["seed"])
        for variant, entry in record.items()
        if isinstance(entry, Mapping) and isinstance(entry.get("base"), str) and isinstance(entry.get("seed"), int)
    }


def _overrides(record: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        str(variant): [str(change) for change in changes]
        for variant, changes in record.items()
        if isinstance(changes, list) and changes
    }


def _table(raw: object, notes: list[str]) -> TableSpec | None:
    if raw is None:
        return None
    try:
        return TableSpec.model_validate(raw)
    except ValidationError as error:
        notes.append(f"run.json: table: {'; '.join(details['msg'] for details in error.errors())}")
        return None


def _read_stage(
    name: str,
    record: Mapping[str, Any],
    metrics: dict[str, Metric],
    run_directory: Path,
    notes: list[str],
    abandoned: bool,
) -> Stage:
    status = str(record.get("status") or ("done" if metrics else "pending"))
    place = record.get("directory")
    directory = run_directory / place if isinstance(place, str) and place else None
    if directory is not None and not metrics:
        metrics = parse_metrics(_read_json(directory / "results.json", notes), f"{place}/results.json", notes)
    resolved = _resolved(directory / "resolved.yaml") if directory else {}
    return Stage(
        name=name,
        kind=str(record.get("kind") or ""),
        status="interrupted" if abandoned and status == "running" else status,
        seconds=finite(record.get("seconds")),
        directory=directory,
        metrics=metrics,
        log=read_training_log(directory / "metrics.jsonl", notes) if directory else {},
        num_steps=_planned_steps(resolved),
        trains_on=_trains_on(resolved),
        remarks=read_remarks(directory) if directory else (),
        kept=_kept(directory / VALUES_FILE, notes) if directory else KeptValues(),
    )


def _kept(path: Path, notes: list[str]) -> KeptValues:
    try:
        return read_values(path)
    except DataError as error:
        notes.append(f"{error}; variants are compared as if independent")
        return KeptValues()


def _resolved(path: Path) -> Mapping[str, Any]:
    """What a stage resolved to; empty where that cannot be read."""
    try:
        resolved = yaml.safe_load(_read_text(path) or "")
    except yaml.YAMLError:
        return {}
    return resolved if isinstance(resolved, dict) else {}


def _planned_steps(resolved: Mapping[str, Any]) -> int | None:
    stage = resolved.get("stage")
    steps = stage.get("steps") if isinstance(stage, dict) else None
    return steps if isinstance(steps, int) else None


def _trains_on(resolved: Mapping[str, Any]) -> str:
    """The digest of the encode stage of a training stage's latents."""
    stage, inputs = resolved.get("stage"), resolved.get("inputs")
    data = stage.get("data") if isinstance(stage, dict) and stage.get("kind") == "train" else None
    named = data.get("stage") if isinstance(data, dict) and data.get("kind") == "latents" else None
    digest = inputs.get(named) if isinstance(inputs, dict) and named else None
    return digest if isinstance(digest, str) else ""


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _read_json(path: Path, notes: list[str]) -> object:
    text = _read_text(path)
    if text is None:
        return None
    try:
        return parsed_json(text)
    except ValueError as error:
        notes.append(f"{path.name} of {path.parent.name!r} is not valid JSON: {error}")
        return None


def _mapping(raw: object, where: str, notes: list[str]) -> Mapping[str, Any]:
    if isinstance(raw, Mapping):
        return raw
    if raw is not None:
        notes.append(f"{where}: expected an object, got {type(raw).__name__}")
    return {}
