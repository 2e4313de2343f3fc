"""The report of one run, or of several side by side, from what they left in their folders. Free of torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs

from diffusability.core.errors import SpecError
from diffusability.core.report.comparison import compare
from diffusability.core.report.contents import gather
from diffusability.core.report.html_page import render_html
from diffusability.core.report.markdown_page import render_markdown
from diffusability.core.report.paper_table import PaperTable, paper_table
from diffusability.core.report.paper_table_html import paper_table_html
from diffusability.core.report.paper_table_latex import paper_table_latex
from diffusability.core.report.paper_table_markdown import paper_table_markdown
from diffusability.core.report.run_folder import Run, read_run
from diffusability.core.specs.table import read_table

TableFormat = Literal["html", "markdown", "latex"]
_TABLE_WRITERS: Mapping[TableFormat, Callable[[PaperTable], str]] = {
    "html": paper_table_html,
    "markdown": paper_table_markdown,
    "latex": paper_table_latex,
}
TABLE_FORMATS = tuple(_TABLE_WRITERS)


def build_report(run_directories: Sequence[Path], output: Path | None = None, table: Path | None = None) -> list[Path]:
    """Writes ``report.html`` and ``report.md``, with figures under ``figures/``, and returns the paths.

    Where a run has a table, the report has it too, and it is also written as ``table.tex``.

    Of several runs, the variants are compared as ``run/variant``. Runs may be unfinished: what is missing is shown
    as absent, and what cannot be read is named in the report.

    Args:
        run_directories: one or more run folders; the first variant of the first is the baseline.
        output: folder for the report, made if need be; the first run's by default.
        table: a file with the table to show instead of the run's own, of one run alone.

    Raises:
        SpecError: no folder is given, one of them is not a run folder, or the table is wrong. Nothing was written.
    """
    directories = list({Path(directory).resolve(): Path(directory) for directory in run_directories}.values())
    if not directories:
        raise SpecError("no run folder was given; expected one or more, such as 'runs/quickstart'")
    if table is not None and len(directories) > 1:
        raise SpecError(f"a table is of one run; got {len(directories)} runs with the table {str(table)!r}")
    contents = gather(compare([_read(directory, table) for directory in directories]))
    target = Path(output) if output is not None else directories[0]
    target.mkdir(parents=True, exist_ok=True)
    for figure in contents.figures:
        figure.save(target / "figures")
    pages = {"report.html": render_html(contents, target), "report.md": render_markdown(contents, target)}
    if contents.tables:
        pages["table.tex"] = "\n".join(map(paper_table_latex, contents.tables))
    for name, page in pages.items():
        (target / name).write_text(page, encoding="utf-8")
    return [target / name for name in pages]


def render_table(run_directory: Path, form: TableFormat = "markdown", table: Path | None = None) -> str:
    """The table of a run alone; writes nothing.

    Args:
        run_directory: the run's folder.
        form: the format.
        table: a file with the table to show instead of the run's own.

    Raises:
        SpecError: the folder is no run folder, it has no table, or the table that is given is wrong.
    """
    run = _read(run_directory, table)
    if run.table is None:
        hint = "; ".join(note for note in run.notes if "table" in note) or "give one with --table FILE"
        raise SpecError(f"run {run.name!r} has no table; {hint}")
    paper = paper_table(run, run.table)
    return str(_TABLE_WRITERS[form](paper)).rstrip("\n") + "\n"


def _read(directory: Path, table: Path | None) -> Run:
    run = read_run(directory)
    if table is None:
        return run
    variants = list(dict.fromkeys(run.seeds.get(name, (name, 0))[0] for name in run.variants))
    stages = list(dict.fromkeys(stage for stages in run.variants.values() for stage in stages))
    return attrs.evolve(run, table=read_table(table, variants, stages))


__all__ = ["TABLE_FORMATS", "TableFormat", "build_report", "render_table"]
