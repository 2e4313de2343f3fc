"""The table of a run as a paper prints it: which metrics of which stages, in what order, under what names."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from diffusability.core.errors import Problem, SpecError, nearest
from diffusability.core.planning.extends import KEY as EXTENDS
from diffusability.core.planning.extends import read_spec
from diffusability.core.planning.problems import problems_of
from diffusability.core.planning.source import Source, read_source
from diffusability.core.specs.base import Spec, SpecPath, fail

#: The key of the table at the top of a spec.
KEY = "table"


class TableColumn(Spec):
    """A metric of a stage."""

    stage: str
    metric: str = Field(min_length=1, description="stable name, such as psnr")
    label: str | None = Field(None, description="default: the metric's usual name")
    group: str | None = Field(None, description="a heading above neighbouring columns that name the same one")


class TableSpec(Spec):
    """What a run's results look like as a table of a paper. No part of what is run."""

    caption: str = ""
    columns: tuple[TableColumn, ...] = Field(description="in order")
    rows: dict[str, str] | None = Field(
        None, description="labels of variants, in order; default: all variants under their own names"
    )
    published: dict[str, tuple[float | None, ...]] = Field(
        {}, description="published numbers of variants, in the order of the columns; null where there is none"
    )
    transpose: bool = Field(False, description="metrics as rows, variants as columns")

    @field_validator("columns")
    @classmethod
    def _columns_differ(cls, columns: tuple[TableColumn, ...]) -> tuple[TableColumn, ...]:
        if not columns:
            raise ValueError("a table needs a column, such as {stage: measure, metric: psnr}")
        seen: set[tuple[str, str]] = set()
        for place, column in enumerate(columns):
            if (column.stage, column.metric) in seen:
                raise fail((place,), f"metric {column.metric!r} of stage {column.stage!r} has two columns", column)
            seen.add((column.stage, column.metric))
        return columns

    @field_validator("rows")
    @classmethod
    def _rows_are_there(cls, rows: dict[str, str] | None) -> dict[str, str] | None:
        if rows is not None and not rows:
            raise ValueError("a table needs a row; leave 'rows' out for all variants")
        return rows

    @model_validator(mode="after")
    def _published_fit(self) -> "TableSpec":
        for variant, numbers in self.published.items():
            if len(numbers) != len(self.columns):
                message = f"{len(numbers)} published numbers for {len(self.columns)} columns; write null where none is"
                raise fail(("published", variant), message, numbers)
            if self.rows is not None and variant not in self.rows:
                known = list(self.rows)
                message = f"published variant {variant!r} has no row; {nearest(variant, known)}rows: {', '.join(known)}"
                raise fail(("published", variant), message, variant)
        return self

    def unknown_names(self, variants: Sequence[str], stages: Sequence[str]) -> Iterator[tuple[SpecPath, str]]:
        """Each stage and variant that the table names and that does not exist: its place and what is wrong."""
        for place, column in enumerate(self.columns):
            if column.stage not in stages:
                yield ("columns", place, "stage"), _unknown("stage", column.stage, stages)
        for key, names in (("rows", self.rows or {}), ("published", self.published)):
            for name in names:
                if name not in variants:
                    yield (key, name), _unknown("variant", name, variants)


def _unknown(noun: str, name: str, known: Sequence[str]) -> str:
    return f"the table names {noun} {name!r}, which does not exist; {nearest(name, known)}{noun}s: {', '.join(known)}"


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
