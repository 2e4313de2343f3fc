"""The results of a run as the table of a paper, for all output formats."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import groupby

import attrs

from diffusability.core.errors import nearest
from diffusability.core.report.comparison import Comparison, VariantGroup, compare
from diffusability.core.report.tables.differences import Difference
from diffusability.core.report.tables.measured_column import measured_column
from diffusability.core.report.tables.number_format import (
    format_delta,
    format_interval,
    format_number,
)
from diffusability.core.report.tables.seed_statistics import Estimate
from diffusability.core.run.folder_reader import Run
from diffusability.core.specs.table import TableColumn, TableSpec

ARROWS = {True: "↑", False: "↓", None: ""}


@attrs.frozen(kw_only=True, eq=False)
class TableMetric:
    """A metric of a stage as the table shows it.

    Attributes:
        label: its name, with an arrow in the direction that is better.
        group: the heading that it shares with its neighbours, or empty.
        title: what a reader may want to know besides.
        higher_is_better: None for a metric without a direction.
        decimals: of our numbers; None for scientific notation.
        published_decimals: of published numbers.
    """

    label: str
    group: str
    title: str
    higher_is_better: bool | None
    decimals: int | None
    published_decimals: int


@attrs.frozen(kw_only=True, eq=False)
class TableCell:
    """A metric of a variant.

    Attributes:
        metric: the metric.
        estimate: over seeds; None where there is no result.
        difference: from the first row, in pairs where that is possible; None in the first row and where there is none.
        published: the published number, or None.
        best: whether it is the best of its metric.
    """

    metric: TableMetric
    estimate: Estimate | None
    difference: Difference | None
    published: float | None
    best: bool

    @property
    def value(self) -> str:
        """The mean, or nothing."""
        return "" if self.estimate is None else format_number(self.estimate.mean, self.metric.decimals)

    @property
    def std(self) -> str:
        """The standard deviation over seeds, or nothing."""
        std = None if self.estimate is None else self.estimate.std
        return "" if std is None else _positive(std, self.metric.decimals)

    @property
    def interval(self) -> str:
        """The 95% interval in brackets, or nothing."""
        return "" if self.estimate is None else _interval(self.estimate, self.metric.decimals)

    @property
    def published_value(self) -> str:
        """The published number, or nothing."""
        return "" if self.published is None else format_number(self.published, self.metric.published_decimals)

    @property
    def delta(self) -> str:
        """The difference, or nothing."""
        return "" if self.difference is None else format_delta(self.difference.mean, self.metric.decimals)

    @property
    def delta_interval(self) -> str:
        """The difference's 95% interval in brackets, or nothing."""
        return "" if self.difference is None else _interval(self.difference, self.metric.decimals)

    @property
    def improves(self) -> bool | None:
        """Whether the difference is for the better; None without a direction, and unless its interval excludes 0."""
        return None if self.difference is None else self.difference.improves(self.metric.higher_is_better)


@attrs.frozen(kw_only=True, eq=False)
class Heading:
    """What stands at the head of a row or column; ``group`` is empty where there is none."""

    label: str
    group: str = ""
    title: str = ""


@attrs.frozen(kw_only=True, eq=False)
class Grid:
    """Rows and columns as they are printed, that is after transposition.

    Attributes:
        rows: heads of the rows.
        columns: heads of the columns.
        texts: a text for each row and column.
    """

    rows: Sequence[Heading]
    columns: Sequence[Heading]
    texts: Sequence[Sequence[str]]

    @property
    def column_groups(self) -> list[tuple[str, int]]:
        """Neighbouring columns of one group: its name, which may be empty, and how many there are."""
        return _groups(self.columns)

    @property
    def row_groups(self) -> list[tuple[str, int]]:
        """The same of rows."""
        return _groups(self.rows)


@attrs.frozen(kw_only=True, eq=False)
class PaperTable:
    """A table with a row for each variant and a column for each metric, or the other way round when transposed.

    Attributes:
        caption: what the spec says above it; may be empty.
        rows: labels of the variants.
        columns: the metrics.
        cells: by row and column.
        transposed: whether metrics are printed as rows.
        notes: what a reader should know before numbers are compared.
    """

    caption: str
    rows: Sequence[str]
    columns: Sequence[TableMetric]
    cells: Sequence[Sequence[TableCell]]
    transposed: bool
    notes: Sequence[str]

    def grid(self, show: Callable[[TableCell], str], first_row: int = 0) -> Grid:
        """The table with each cell as a text, without the rows of variants before ``first_row``."""
        texts = [[show(cell) for cell in row] for row in self.cells[first_row:]]
        rows = [Heading(label=label) for label in self.rows[first_row:]]
        columns = [Heading(label=column.label, group=column.group, title=column.title) for column in self.columns]
        if self.transposed:
            return Grid(rows=columns, columns=rows, texts=[list(line) for line in zip(*texts, strict=True)])
        return Grid(rows=rows, columns=columns, texts=texts)

    def has(self, show: Callable[[TableCell], str]) -> bool:
        """Whether some cell shows it."""
        return any(show(cell) for row in self.cells for cell in row)

    @property
    def difference_methods(self) -> str:
        """How the intervals of the differences were found, in a few words."""
        methods = [cell.difference.method for row in self.cells for cell in row if cell.difference is not None]
        return "; ".join(dict.fromkeys(method for method in methods if method))

    @property
    def difference_legend(self) -> str:
        """A sentence on the differences."""
        how = f" ({self.difference_methods})" if self.difference_methods else ""
        return f"difference from {self.rows[0]}, and its 95% interval{how}; it is significant where that excludes 0"

    @property
    def num_seeds(self) -> tuple[int, int]:
        """The least and the most seeds that a number is of; zeros without a number."""
        counts = [cell.estimate.num_seeds for row in self.cells for cell in row if cell.estimate is not None]
        return min(counts, default=0), max(counts, default=0)

    def legend(self, published: str) -> list[str]:
        """Sentences on how to read it; ``published`` says how published numbers look."""
        least, most = self.num_seeds
        sentences = []
        if most > 1:
            seeds = f"{most} seeds" if least == most else f"{least} to {most} seeds"
            sentences.append(f"Mean ± standard deviation over {seeds}.")
        elif most == 1:
            sentences.append("One seed.")
        if self.has(lambda cell: cell.interval):
            over = "Student's t over seeds" if least > 1 else "over samples within the run"
            over = over if least == most or least > 1 else f"Student's t over seeds, {over} where there is one"
            sentences.append(f"In square brackets: 95% interval, {over}.")
        if self.has(lambda cell: cell.published_value):
            sentences.append(f"{published}: published.")
        if any(cell.best for row in self.cells for cell in row):
            sentences.append("Bold: the best.")
        return sentences


def paper_table(run: Run, spec: TableSpec) -> PaperTable:
    """The table of a run, finished or not."""
    comparison = compare([run])
    groups = {group.label: group for group in comparison.groups}
    rows = {name: name for name in groups} if spec.rows is None else dict(spec.rows)
    columns, notes = [], []
    for place, column in enumerate(spec.columns):
        published = [spec.published[name][place] if name in spec.published else None for name in rows]
        metric, cells, remarks = _column(column, [groups.get(name) for name in rows], published)
        columns.append((metric, cells))
        notes += remarks or _missing(column, comparison)
    return PaperTable(
        caption=spec.caption,
        rows=list(rows.values()),
        columns=[metric for metric, _ in columns],
        cells=[[cells[place] for _, cells in columns] for place in range(len(rows))],
        transposed=spec.transpose,
        notes=notes,
    )


def _column(
    spec: TableColumn, groups: Sequence[VariantGroup | None], published: Sequence[float | None]
) -> tuple[TableMetric, list[TableCell], list[str]]:
    measured = measured_column(groups, spec.stage, spec.metric)
    known = [value for value in published if value is not None]
    published_decimals = max((_decimals(value) for value in known), default=0)
    info, direction, decimals = measured.info, measured.higher_is_better, measured.decimals
    label = spec.label if spec.label is not None else info.label
    arrow = "" if any(sign in label for sign in ("↑", "↓")) else ARROWS[direction]
    metric = TableMetric(
        label=f"{label} {arrow}".strip(),
        group=spec.group or "",
        title=f"{spec.stage}, {spec.metric}{f': {info.meaning}' if info.meaning else ''}",
        higher_is_better=direction,
        decimals=None if decimals is None else max(decimals, published_decimals),
        published_decimals=published_decimals,
    )
    cells = [
        TableCell(
            metric=metric,
            estimate=estimate,
            difference=measured.differences[place],
            published=published[place],
            best=place in measured.best,
        )
        for place, estimate in enumerate(measured.estimates)
    ]
    warning = measured.warning
    return metric, cells, [f"{metric.label}: {warning}; compare with care."] if warning else []


def _missing(column: TableColumn, comparison: Comparison) -> list[str]:
    """A metric that no variant has although its stage has results: most likely its name is wrong."""
    stages = [variant.stages[column.stage] for variant in comparison.variants if column.stage in variant.stages]
    names = sorted({name for stage in stages for name in stage.metrics})
    if not names or column.metric in names:
        return []
    return [
        f"stage {column.stage!r} has no metric {column.metric!r}; {nearest(column.metric, names)}it has:"
        f" {', '.join(names)}"
    ]


def _groups(headings: Sequence[Heading]) -> list[tuple[str, int]]:
    spans: list[tuple[str, int]] = []
    for group, members in groupby(headings, key=lambda heading: heading.group):
        count = len(list(members))
        spans += [(group, count)] if group else [("", 1)] * count
    return spans


def _decimals(value: float) -> int:
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _positive(value: float, decimals: int | None) -> str:
    """A standard deviation with the decimals of its column, or one digit more than it would take to round to zero."""
    if decimals is None or (value > 0 and round(value, decimals) == 0):
        return f"{value:.1g}"
    return f"{value:.{decimals}f}"


def _interval(estimate: Estimate, decimals: int | None) -> str:
    return format_interval(estimate.low, estimate.high, decimals)
