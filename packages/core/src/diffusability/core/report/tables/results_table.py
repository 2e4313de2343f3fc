"""The results of a run on a terminal, and as text that other programs read. Free of torch."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diffusability.core.errors import SpecError, nearest
from diffusability.core.report.comparison import Comparison, compare
from diffusability.core.report.pages.markdown_text import escape as escape_markdown
from diffusability.core.report.pages.markdown_text import table as markdown_table
from diffusability.core.report.tables.metric_table import Cell, Column, metric_columns
from diffusability.core.report.tables.paper_table_latex import escape_latex
from diffusability.core.report.tables.result_notes import result_notes
from diffusability.core.run.folder_reader import read_run

#: Variants beside the baseline in one table of a terminal.
_MOST_BESIDE = 4


def print_results(console: Console, run_directory: Path) -> None:
    """The table of a run: a row for each metric, a column for each variant, with its difference from the first one.

    Of many variants there are several tables, each with the first one. Notes of results and remarks come below.

    Raises:
        SpecError: the folder is not a run folder.
    """
    comparison = compare([read_run(run_directory)])
    columns = metric_columns(comparison)
    if not columns:
        console.print("no results yet", style="dim")
    others = list(range(1, len(comparison.groups)))
    for first in range(0, max(len(others), 1), _MOST_BESIDE) if columns else ():
        console.print(_table(comparison, columns, [0, *others[first : first + _MOST_BESIDE]]))
    for remark in [*result_notes(comparison), *comparison.remarks]:
        console.print(remark, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _table(comparison: Comparison, columns: Sequence[Column], places: Sequence[int]) -> Table:
    seeds = f", mean of {comparison.num_seeds} seeds" if comparison.num_seeds > 1 else ""
    table = Table(title=f"{comparison.title}{seeds}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("metric")
    for place in places:
        note = "\n[dim]baseline[/dim]" if place == 0 and len(comparison.groups) > 1 else ""
        table.add_column(escape(comparison.groups[place].label) + note, justify="right")
    stage = ""
    for column in columns:
        if column.stage != stage:
            stage = column.stage
            table.add_section()
            table.add_row(f"[dim]{escape(stage)}[/dim]")
        table.add_row(escape(_heading(column)), *(_styled(column.cells[place]) for place in places))
    return table


def _heading(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.label}{unit} {column.arrow}".rstrip()


def _away(cell: Cell) -> str:
    """The difference from the baseline, with its interval where there is one."""
    return " ".join(filter(None, (cell.delta, str(getattr(cell, "interval", "")))))


def _styled(cell: Cell) -> str:
    away = _away(cell)
    if not away:
        return escape(cell.text)
    style = {True: "green", False: "red", None: "dim"}[cell.improves if getattr(cell, "interval", "") else None]
    return f"{escape(cell.text)} [{style}]{escape(away)}[/{style}]"


def _plain(cell: Cell) -> str:
    away = _away(cell)
    return f"{cell.text} ({away})" if away else cell.text


def result_records(run_directory: Path) -> list[dict[str, Any]]:
    """One flat record for each metric and variant that has a value, with numbers as they are.

    ``difference`` is from the first variant; ``low`` and ``high`` are the ends of its 95% interval, where it has one.
    """
    comparison = compare([read_run(run_directory)])
    records = []
    for column in metric_columns(comparison):
        for group, value, cell in zip(comparison.groups, column.values, column.cells, strict=True):
            if value is None:
                continue
            known = getattr(cell, "difference", None)
            baseline = column.values[0]
            plain = value - baseline if cell.delta and baseline is not None else None
            records.append(
                {
                    "stage": column.stage,
                    "metric": column.metric,
                    "variant": group.label,
                    "value": value,
                    "unit": column.unit,
                    "higher_is_better": column.higher_is_better,
                    "num_samples": column.num_samples,
                    "difference": plain if known is None else known.mean,
                    "low": getattr(known, "low", None),
                    "high": getattr(known, "high", None),
                }
            )
    return records


def _as_json(run_directory: Path) -> str:
    return json.dumps(result_records(run_directory), indent=2, allow_nan=False) + "\n"


def _as_csv(run_directory: Path) -> str:
    records = result_records(run_directory)
    text = io.StringIO()
    names = ["stage", "metric", "variant", "value", "unit", "higher_is_better", "num_samples", "difference"]
    writer = csv.DictWriter(text, [*names, "low", "high"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _grid(run_directory: Path) -> tuple[list[str], list[list[str]]]:
    comparison = compare([read_run(run_directory)])
    heading = ["stage", "metric", *(group.label for group in comparison.groups)]
    rows = [
        [column.stage, _heading(column), *(_plain(cell) for cell in column.cells)]
        for column in metric_columns(comparison)
    ]
    return heading, rows


def _as_markdown(run_directory: Path) -> str:
    heading, rows = _grid(run_directory)
    escaped = [[escape_markdown(word) for word in row] for row in (heading, *rows)]
    return markdown_table(escaped[0], escaped[1:]) + "\n"


def _as_latex(run_directory: Path) -> str:
    heading, rows = _grid(run_directory)
    lines = [" & ".join(map(escape_latex, row)) + r" \\" for row in rows]
    top = " & ".join(map(escape_latex, heading)) + r" \\"
    begin = rf"\begin{{tabular}}{{ll{'r' * (len(heading) - 2)}}}"
    return "\n".join([begin, r"\toprule", top, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


#: Writers of ``dfz show --format``; ``table`` is for a terminal.
RESULT_WRITERS: Mapping[str, Callable[[Path], str]] = {
    "markdown": _as_markdown,
    "csv": _as_csv,
    "json": _as_json,
    "latex": _as_latex,
}


def results_text(run_directory: Path, form: str) -> str:
    """The results of a run in a format of ``RESULT_WRITERS``. Raises SpecError for another one."""
    if form not in RESULT_WRITERS:
        known = ["table", *RESULT_WRITERS]
        raise SpecError(f"there is no format {form!r}; {nearest(form, known)}formats: {', '.join(known)}")
    return RESULT_WRITERS[form](run_directory)
