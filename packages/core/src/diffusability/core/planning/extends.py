"""Specs that build on other files: ``extends: base.yaml``."""

from pathlib import Path

from diffusability.core.errors import Problem, SpecError
from diffusability.core.planning.overlay import overlay
from diffusability.core.planning.source import Source, read_source

KEY = "extends"


def read_spec(path: Path) -> Source:
    """Reads a spec file and lays it over the file that it extends, if any, which may extend another one.

    Of several files (a list), each is laid over those before it. What ``variants`` are: a plain mapping in the
    extending file replaces the base's variants; a dotted path (``variants.more: {...}``) adds to them or changes one.
    The same holds for ``table``. Everything else is laid over as a variant is. The base's path is relative to the
    extending file. Values keep their places in the file that they come from.

    Raises:
        SpecError: a file is missing or not a spec, or files extend each other in a circle.
    """
    return _read(path, ())


def _read(path: Path, above: tuple[Path, ...]) -> Source:
    source = read_source(path)
    if KEY not in source.data:
        return source
    names = source.data[KEY]
    where = source.locate((KEY,))
    bases = names if isinstance(names, list) else [names]
    if not bases or not all(isinstance(base, str) and base for base in bases):
        raise SpecError([Problem(f"'{KEY}' names a spec file or a list of them, got {names!r}", KEY, where)])
    here = (*above, path.resolve())
    result: Source | None = None
    for base in bases:
        inherited = _read(_base(path.parent / base, here, where), here)
        result = inherited if result is None else _laid_over(result, inherited)
    assert result is not None
    result = _laid_over(result, source.without(KEY))
    result.name = source.name
    return result


def _base(target: Path, here: tuple[Path, ...], where: str) -> Path:
    """The path of a file to extend. Raises SpecError when it is missing or among those that extend it."""
    if target.resolve() in here:
        names = " -> ".join(file.name for file in (*here[here.index(target.resolve()) :], target))
        raise SpecError([Problem(f"specs extend each other in a circle: {names}", KEY, where)])
    if not target.is_file():
        hint = "the path is relative to this file"
        raise SpecError([Problem(f"there is no spec file {str(target)!r} to extend", KEY, where, hint)])
    return target


def _laid_over(base: Source, own: Source) -> Source:
    for key in ("variants", "table"):
        if key in own.data:
            base = base.without(key)
    return overlay(base, own)
