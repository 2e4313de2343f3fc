"""Specs that build on another file: ``extends: base.yaml``."""

from pathlib import Path

from diffusability.core.errors import Problem, SpecError
from diffusability.core.specs.overlay import overlay
from diffusability.core.specs.source import Source, read_source

KEY = "extends"


def read_spec(path: Path) -> Source:
    """Reads a spec file and lays it over the file that it extends, if any, which may extend another one.

    What ``variants`` and ``table`` are: a plain mapping in the extending file replaces the base's; a dotted path
    (``variants.more: {...}``) adds to them or changes one. Everything else is laid over as a variant is. The
    base's path is relative to the extending file. Values keep their places in the file that they come from.

    Raises:
        SpecError: a file is missing or not a spec, or files extend each other in a circle.
    """
    return _read(path, ())


def _read(path: Path, above: tuple[Path, ...]) -> Source:
    source = read_source(path)
    if KEY not in source.data:
        return source
    base = source.data[KEY]
    where = source.locate((KEY,))
    if not isinstance(base, str) or not base:
        raise SpecError([Problem(f"'{KEY}' names one spec file, got {base!r}", KEY, where)])
    here = (*above, path.resolve())
    target = path.parent / base
    if target.resolve() in here:
        names = " -> ".join(file.name for file in (*here[here.index(target.resolve()) :], target))
        raise SpecError([Problem(f"specs extend each other in a circle: {names}", KEY, where)])
    if not target.is_file():
        raise SpecError(
            [
                Problem(
                    f"there is no spec file {str(target)!r} to extend", KEY, where, "the path is relative to this file"
                )
            ]
        )
    own = source.without(KEY)
    inherited = _read(target, here)
    for key in ("variants", "table"):
        if key in own.data:
            inherited = inherited.without(key)
    result = overlay(inherited, own)
    result.name = source.name
    return result
