"""``dfz report``."""

from collections.abc import Sequence
from pathlib import Path

import typer

from diffusability.core.errors import SpecError, nearest
from diffusability.core.report import TABLE_FORMATS, build_report, render_table


def show_report(
    run_folders: Sequence[Path],
    table: Path | None,
    table_only: bool,
    table_format: str | None,
    to: Path | None = None,
) -> None:
    """Writes the report and names its files, or prints a run's table alone."""
    if not table_only:
        if table_format is not None:
            raise SpecError(f"--format {table_format} is for --table-only; a report is written in all formats")
        for path in build_report(run_folders, to, table=table):
            typer.echo(str(path))
        return
    if to is not None:
        raise SpecError(f"--table-only writes nothing, so --to {str(to)!r} is of no use; leave one of them out")
    if len(run_folders) > 1:
        raise SpecError(f"--table-only prints the table of one run, got {len(run_folders)} runs")
    for form in TABLE_FORMATS:
        if form == (table_format or "markdown"):
            typer.echo(render_table(run_folders[0], form, table), nl=False)
            return
    names = ", ".join(TABLE_FORMATS)
    raise SpecError(f"there is no format {table_format!r}; {nearest(table_format, TABLE_FORMATS)}formats: {names}")
