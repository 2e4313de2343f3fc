"""Variants and ``--set``: changes laid over a spec before it is validated."""

from collections.abc import Container
from itertools import pairwise
from typing import Any

from diffusability.core.errors import Problem, SpecError, nearest
from diffusability.core.planning.source import Mark, Source, parse_source
from diffusability.core.specs.base import SpecPath


def overlay(base: Source, changes: Source) -> Source:
    """A copy of ``base`` with ``changes`` laid over it.

    A key of ``changes`` may be a dotted path (``stages.finetune.steps``; numbers index lists). A mapping is merged
    into a mapping, key by key, unless both name a ``kind`` and the kinds differ; everything else replaces. A stage
    that ``changes`` adds comes before the stage that follows it there, and last where none of the base's follows;
    ``null`` in place of a stage takes it out.
    At the top, ``seed`` takes the place of the base's ``seeds``, and the other way round.

    Raises:
        SpecError: a path leads through a scalar, out of a list, or to a stage that does not exist.
    """
    result = base.copy()
    if changes.data is None:
        return result
    if not isinstance(changes.data, dict):
        raise SpecError([Problem(f"expected a mapping of changes, got {changes.data!r}", location=changes.locate(()))])
    for key in changes.data:
        _drop_rival(result, key, changes.data)
        _set(result, tuple(key.split(".")), changes.sub((key,)))
    return result


def override(base: Source, assignment: str) -> Source:
    """A copy of ``base`` with one ``path=value`` of the command line; the value is read as YAML."""
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip():
        raise SpecError(f"--set {assignment!r} is not of the form path.to.key=value")
    name = f"--set {path.strip()}"
    value = parse_source(text, name)
    value.marks = {key: Mark(name, 1, 1) for key in value.marks} or {(): Mark(name, 1, 1)}
    result = base.copy()
    _drop_rival(result, path.strip(), ())
    _set(result, tuple(path.strip().split(".")), value)
    return result


#: Of these keys of a spec's top, one that is laid over takes the place of the other.
RIVALS = {"seed": "seeds", "seeds": "seed"}


def _drop_rival(target: Source, key: str, changes: Container[str]) -> None:
    rival = RIVALS.get(key)
    if rival in target.data and rival not in changes:
        del target.data[rival]
        target.marks = {path: mark for path, mark in target.marks.items() if path[:1] != (rival,)}


def _set(target: Source, dotted: tuple[str, ...], value: Source) -> None:
    node: Any = target.data
    path: SpecPath = ()
    for depth, step in enumerate(dotted):
        last = depth == len(dotted) - 1
        key = _key(node, step, path, value)
        if path == ("stages",) and not last and key not in node:
            raise _no_such_stage(step, "change", list(node), dotted, value)
        path = (*path, key)
        if last:
            _place(target, node, key, path, value)
        else:
            if isinstance(node, dict) and node.get(key) is None:
                node[key] = {}
                target.marks[path] = value.marks.get((), Mark(value.name, 1, 1))
            node = node[key]


def _key(node: Any, step: str, path: SpecPath, value: Source) -> str | int:
    where = ".".join(map(str, path)) or "the top"
    if isinstance(node, dict):
        return step
    if not isinstance(node, list):
        raise SpecError([Problem(f"{where} is {node!r}, which has no key {step!r}", location=value.locate(()))])
    if not step.isdigit() or int(step) >= len(node):
        raise SpecError(
            [
                Problem(
                    f"{where} is a list of {len(node)}; expected an index below that, got {step!r}",
                    location=value.locate(()),
                )
            ]
        )
    return int(step)


def _no_such_stage(name: str, what: str, known: list[str], path: SpecPath, value: Source) -> SpecError:
    return SpecError(
        [
            Problem(
                f"there is no stage {name!r} to {what}",
                path=".".join(map(str, path)),
                location=value.locate(()),
                hint=f"{nearest(name, known)}stages: {', '.join(known)}",
            )
        ]
    )


def _place(target: Source, node: Any, key: str | int, path: SpecPath, value: Source) -> None:
    present: Any = node[key] if isinstance(node, list) or key in node else None  # type: ignore[index]
    merges = isinstance(present, dict) and isinstance(value.data, dict)
    if merges and value.data.get("kind", present.get("kind")) == present.get("kind"):
        known = set(present)
        for name in value.data:
            _place(target, present, name, (*path, name), value.sub((name,)))
        if path == ("stages",):
            _order(present, [name for name in value.data if name in present], known)
        return
    target.marks = {key: mark for key, mark in target.marks.items() if key[: len(path)] != path}
    if value.data is None and path[:-1] == ("stages",):
        if key not in node:
            raise _no_such_stage(str(key), "take out", list(node), path, value)
        del node[key]
        return
    target.marks |= {(*path, *below): mark for below, mark in value.marks.items()}
    node[key] = value.data


def _order(stages: dict[str, Any], written: list[str], known: set[str]) -> None:
    """Moves the stages that are not among the known ones before those that follow them where they are written."""
    names = list(stages)
    for name, follower in reversed(list(pairwise(written))):
        if name not in known:
            names.remove(name)
            names.insert(names.index(follower), name)
    for name in names:
        stages[name] = stages.pop(name)
