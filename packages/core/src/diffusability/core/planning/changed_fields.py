"""What differs between the recorded identity of a stage and the one that a spec gives it now."""

from collections.abc import Iterator, Mapping
from typing import Any

from diffusability.core.planning.plan import PlannedStage
from diffusability.core.specs.base import Spec

#: Fields that say the same in other words: what is drawn follows from the name and the seed.
_NAMED = ("name",)


def changed_fields(recorded: Mapping[str, Any], stage: PlannedStage) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, by their path in the stage, with the value before and now; None for one that is absent.

    A field that the record does not know came with a later version: it counts as unchanged at its default, or at what
    its class says that its absence meant (``Spec.meant_before``).
    """
    before, now = _flat(recorded), _flat(stage.identity)
    at_default, meant = _since_then(stage)
    changed = {}
    for path in dict.fromkeys((*now, *before)):
        if path.partition(".")[0] in _NAMED or (before.get(path) == now.get(path) and path in before):
            continue
        old = before.get(path, meant.get(path))
        if path not in before and (old == now[path] if path in meant else _below(path, at_default)):
            continue
        changed[path.removeprefix("stage.")] = (old, now.get(path))
    return changed


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of nested mappings and lists, by their dotted path; empty ones are leaves."""
    if isinstance(value, Mapping) and value:
        items: Any = value.items()
    elif isinstance(value, list | tuple) and value:
        items = enumerate(value)
    else:
        return {path: str(value) if not isinstance(value, bool | int | float | str | None) else value}
    return {
        place: leaf
        for name, item in items
        for place, leaf in _flat(item, f"{path}.{name}" if path else str(name)).items()
    }


def _since_then(stage: PlannedStage) -> tuple[set[str], dict[str, Any]]:
    """The paths of fields at their defaults, and what the absence of a field meant, by its path."""
    at_default: set[str] = set()
    meant: dict[str, Any] = {}
    for part, name in ((stage.spec, "stage"), (stage.data, "data"), (stage.engine, "engine")):
        for path, spec in part.walk():
            place = ".".join(map(str, (name, *path)))
            at_default.update(f"{place}.{field}" for field in _defaults(spec))
            meant |= {f"{place}.{field}": value for field, value in type(spec).meant_before.items()}
    return at_default, meant


def _defaults(spec: Spec) -> Iterator[str]:
    for name, field in type(spec).model_fields.items():
        if not field.is_required() and getattr(spec, name) == field.get_default(call_default_factory=True):
            yield name


def _below(path: str, places: set[str]) -> bool:
    """Whether a path is one of these places, or lies below one."""
    parts = path.split(".")
    return any(".".join(parts[:count]) in places for count in range(1, len(parts) + 1))
