"""The table of a run as a paper prints it: which metrics of which stages, in what order, under what names."""

from collections.abc import Iterator, Sequence

from pydantic import Field, field_validator, model_validator

from diffusability.core.errors import nearest
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
