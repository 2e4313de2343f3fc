"""The folder of a run: where stages are, which are done, and that only one process at a time works in it."""

import fcntl
import importlib.metadata
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from diffusability.core.errors import DiffusabilityError, NotFiniteError, RunLockedError
from diffusability.core.planning.plan import Plan, PlannedStage
from diffusability.core.planning.source import as_yaml
from diffusability.core.reading import parsed_json
from diffusability.core.run.run_record import RECORD, readable_record
from diffusability.core.writing import PARTIAL, replacing

_VERSIONED = (
    "diffusability-core",
    "diffusability-models",
    "diffusability-regularizers",
    "diffusability-eval",
    "torch",
    "deepspeed",
)


#: What the digest of a stage is of.
IDENTITY = "identity.json"


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that it appears whole or not at all.

    Raises:
        NotFiniteError: it holds NaN or infinity, which JSON has no words for and browsers do not parse.
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False)
    except ValueError as error:
        raise NotFiniteError(f"{str(path)!r} is not written: {error}; expected finite numbers") from None
    with replacing(path) as partial:
        partial.write_text(text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty when there is none."""
    try:
        content = parsed_json(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def versions() -> dict[str, str]:
    """Versions of what defines a result."""
    installed = {}
    for name in _VERSIONED:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _lives(pid: str) -> bool:
    """False when there is no process of that number; True also when nobody can tell."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("directory"), str) and "status" in entry


class RunFolder:
    """``runs/<name>`` and what is in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Keeps other processes out for the time of a ``with`` block; a killed process leaves no lock behind.

        Gives the lock's file descriptor: a child process that inherits it keeps the others out, too, should its parent
        be killed.

        Raises:
            RunLockedError: another process works in this folder.
            DiffusabilityError: it cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("a+")
        except OSError as error:
            raise DiffusabilityError(
                f"run folder {str(self.root)!r} cannot be written: {error.strerror}; expected a folder that may be"
                " written (--runs DIR names another)"
            ) from error
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                who = f"another process (pid {owner})" if _lives(owner) else f"a job of process {owner}, which is dead,"
                raise RunLockedError(
                    f"{who} is running in {str(self.root)!r}; wait for it, or give this run another name"
                ) from None
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield file.fileno()

    @property
    def cache(self) -> Path:
        """What variants compute once and share; may be removed between runs."""
        return self.root / "cache"

    def stage(self, stage: PlannedStage) -> Path:
        """Folder of a stage."""
        return self.root / "stages" / stage.directory_name

    def is_done(self, stage: PlannedStage) -> bool:
        """True when a stage has finished with this very digest."""
        return bool(read_json(self.stage(stage) / "done.json").get("digest") == stage.digest)

    def begin(self, stage: PlannedStage) -> Path:
        """Makes the folder of a stage and writes what it resolved to; removes files that were never finished."""
        directory = self.stage(stage)
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in (*directory.rglob(".tmp*"), *directory.rglob(f"*{PARTIAL}")):  # of a killed process
            if leftover.is_file():
                leftover.unlink()
        (directory / "resolved.yaml").write_text(as_yaml(stage.resolved(), allow_unicode=False))
        write_json(directory / IDENTITY, json.loads(json.dumps(stage.identity, default=str)))
        return directory

    def finish(
        self,
        stage: PlannedStage,
        seconds: float,
        num_ranks: int,
        precision: str,
        facts: Mapping[str, int] | None = None,
    ) -> None:
        """Marks a stage as done.

        ``precision`` is what the engine's came to on this device, ``facts`` what the stage counted.
        """
        content = {
            "digest": stage.digest,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": round(seconds, 3),
            "num_ranks": num_ranks,
            "precision": precision,
            **(facts or {}),
            "versions": versions(),
        }
        write_json(self.stage(stage) / "done.json", content)

    def results_of(self, stage: PlannedStage) -> dict[str, Any]:
        """The metrics of a stage; empty when it has none."""
        return read_json(self.stage(stage) / "results.json")

    def kept_variants(self, plan: Plan) -> dict[str, dict[str, Any]]:
        """The stages of variants that this command does not name and that were run from another spec, as recorded.

        They keep their results and their place in the report until a command that means them runs them again.
        """
        recorded = readable_record(self.root).get("variants")
        if not isinstance(recorded, dict):
            return {}
        kept = {}
        for variant in [name for name in plan.stages if name not in plan.chosen]:
            stages = recorded.get(variant)
            if not isinstance(stages, dict) or not all(_is_entry(entry) for entry in stages.values()):
                continue
            planned = {f"stages/{stage.directory_name}" for stage in plan.stages[variant].values()}
            finished = {entry["directory"] for entry in stages.values() if entry["status"] == "done"}
            if finished - planned:
                kept[variant] = stages
        return kept

    def overrides_of(self, plan: Plan) -> dict[str, list[str]]:
        """What ``--set`` has changed of each variant: now, or when a variant that is kept was run."""
        recorded = readable_record(self.root).get("overrides")
        earlier = recorded if isinstance(recorded, dict) else {}
        overrides = {variant: list(plan.overrides) for variant in plan.stages if variant in plan.chosen}
        overrides |= {variant: earlier.get(variant, []) for variant in self.kept_variants(plan)}
        return {variant: changes for variant, changes in overrides.items() if changes}

    def write_results(self, plan: Plan) -> None:
        """Gathers the results of all variants at the top."""
        kept = self.kept_variants(plan)
        directories = {
            variant: {name: self.root / entry["directory"] for name, entry in kept[variant].items()}
            if variant in kept
            else {name: self.stage(stage) for name, stage in stages.items()}
            for variant, stages in plan.stages.items()
        }
        variants = {
            variant: {name: results for name, at in stages.items() if (results := read_json(at / "results.json"))}
            for variant, stages in directories.items()
        }
        write_json(self.root / "results.json", {"name": plan.name, "variants": variants})

    def write_overview(self, plan: Plan, command: str, status: Mapping[str, str]) -> None:
        """Writes ``run.json``; ``status`` overrides what the folders say, by the folder's name.

        The time at which the run began is that of the first writing.
        """
        kept = self.kept_variants(plan)
        content = {
            "name": plan.name,
            "created": self._created() or time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": command,
            "versions": versions(),
            "variant_seeds": {variant: attrs.asdict(planned) for variant, planned in plan.variants.items()},
            "overrides": self.overrides_of(plan),
            "table": None if plan.table is None else plan.table.model_dump(mode="json"),
            "variants": {
                variant: kept[variant]
                if variant in kept
                else {name: self._overview_of(stage, variant, status) for name, stage in stages.items()}
                for variant, stages in plan.stages.items()
            },
        }
        write_json(self.root / RECORD, content)

    def _created(self) -> str | None:
        """When the run began; None where no readable ``run.json`` says so."""
        created = readable_record(self.root).get("created")
        return created if isinstance(created, str) else None

    def _overview_of(self, stage: PlannedStage, variant: str, status: Mapping[str, str]) -> dict[str, Any]:
        done = self.is_done(stage)
        facts = parsed_json((self.stage(stage) / "done.json").read_text()) if done else {}
        return {
            "directory": f"stages/{stage.directory_name}",
            "kind": stage.spec.kind,
            "status": "done" if done else status.get(stage.directory_name, "pending"),
            "seconds": facts.get("seconds"),
            **{name: facts[name] for name in ("num_skipped",) if name in facts},
            "shared_with": [other for other in stage.variants if other != variant],
        }
