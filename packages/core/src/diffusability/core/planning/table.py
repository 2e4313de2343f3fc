"""Reads the table of a run, from its spec or from a file of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from diffusability.core.errors import Problem, SpecError
from diffusability.core.planning.extends import KEY as EXTENDS
from diffusability.core.planning.extends import read_spec
from diffusability.core.planning.problems import problems_of
from diffusability.core.planning.source import Source, read_source
from diffusability.core.specs.base import SpecPath
from diffusability.core.specs.table import KEY, TableSpec


def validate_table(source: Source, path: SpecPath, variants: Sequence[str], stages: Sequence[str]) -> TableSpec | None:
    """The table at a path of a source, or None for ``null``.

    Args:
        source: what holds the table.
        path: where it is; empty when it is the whole.
        variants: the variants that exist, without their seeds.
        stages: the stages that exist.

    Raises:
        SpecError: with each problem and its place.
    """
    data: Any = source.sub(path).data
    if data is None:
        return None
    try:
        table = TableSpec.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, source.sub(path)).problems
    else:
        problems = [
            Problem(message.partition("; ")[0], ".".join(map(str, place)), source.locate((*path, *place)), hint)
            for place, message in table.unknown_names(variants, stages)
            for hint in [message.partition("; ")[2]]
        ]
        if not problems:
            return table
    raise SpecError(
        [
            Problem(
                problem.message, ".".join(filter(None, (*map(str, path), problem.path))), problem.location, problem.hint
            )
            for problem in problems
        ]
    )


def read_table(file: Path, variants: Sequence[str], stages: Sequence[str]) -> TableSpec:
    """The table of a YAML file: of a whole spec, or the file itself.

    Raises:
        SpecError: the file cannot be read, holds no table, or names what does not exist in the run.
    """
    source = read_source(file)
    path: SpecPath = ()
    if KEY in source.data or EXTENDS in source.data or "stages" in source.data:
        source, path = read_spec(file), (KEY,)
        if KEY not in source.data:
            raise SpecError(f"{str(file)!r} has no '{KEY}'")
    table = validate_table(source, path, variants, stages)
    if table is None:
        raise SpecError(f"'{KEY}' of {str(file)!r} is null; expected columns")
    return table
