"""The report of one run, or of several side by side, from what they left in their folders. Free of torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs

from diffusability.core.errors import SpecError
from diffusability.core.planning.table import read_table
from diffusability.core.report.comparison import compare
from diffusability.core.report.pages.contents import gather
from diffusability.core.report.pages.html_page import render_html
from diffusability.core.report.pages.markdown_page import render_markdown
from diffusability.core.report.tables.metric_table import metric_columns
from diffusability.core.report.tables.paper_table import PaperTable, paper_table
from diffusability.core.report.tables.paper_table_html import paper_table_html
from diffusability.core.report.tables.paper_table_latex import paper_table_latex
from diffusability.core.report.tables.paper_table_markdown import paper_table_markdown
from diffusability.core.run.folder_reader import Run, read_run
from diffusability.core.run.run_record import is_run
from diffusability.core.specs.table import TableSpec

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

    Of several runs, the variants are compared as ``run/variant``, in a folder of its own: no run's report is touched.
    Runs may be unfinished: what is missing is shown as absent, and what cannot be read is named in the report.

    Args:
        run_directories: one or more run folders; the first variant of the first is the baseline.
        output: folder for the report, by default the run's, or for several runs ``comparison-A-B`` beside
            the first.
        table: a file with the table to show instead of the run's own, of one run alone.

    Raises:
        SpecError: no folder is given, one of them is not a run folder, the table is wrong, or several runs are to be
            compared in a run's folder. Nothing was written.
    """
    directories = list({Path(directory).resolve(): Path(directory) for directory in run_directories}.values())
    if not directories:
        raise SpecError("no run folder was given; expected one or more, such as 'runs/quickstart'")
    if table is not None and len(directories) > 1:
        raise SpecError(f"a table is of one run; got {len(directories)} runs with the table {str(table)!r}")
    contents = gather(compare([_read(directory, table) for directory in directories]))
    target = Path(output) if output is not None else _default_folder(directories)
    others = [directory for directory in directories if directory.resolve() != target.resolve()]
    if others and is_run(target):
        raise SpecError(f"{str(target)!r} is a run's folder, whose own report would be lost; expected another one")
    target.mkdir(parents=True, exist_ok=True)
    for figure in contents.figures:
        figure.save(target / "figures")
    pages = {"report.html": render_html(contents, target), "report.md": render_markdown(contents, target)}
    if contents.tables:
        pages["table.tex"] = "\n".join(map(paper_table_latex, contents.tables))
    if "table.tex" not in pages:
        (target / "table.tex").unlink(missing_ok=True)  # of an earlier table
    for name, page in pages.items():
        (target / name).write_text(page, encoding="utf-8")
    return [target / name for name in pages]


def _default_folder(directories: Sequence[Path]) -> Path:
    """Where a report goes: into the run's folder, or for several beside the first one's."""
    first = directories[0]
    if len(directories) == 1:
        return first
    names = [directory.resolve().name for directory in directories]
    shown = [*names[:3], f"and-{len(names) - 3}-more"] if len(names) > 4 else names
    return first.resolve().parent / "-".join(["comparison", *shown])


def render_table(run_directory: Path, form: TableFormat = "markdown", table: Path | None = None) -> str:
    """The table of a run alone; writes nothing. A run whose spec has none gets one of all its metrics.

    Args:
        run_directory: the run's folder.
        form: the format.
        table: a file with the table to show instead of the run's own.

    Raises:
        SpecError: the folder is not a run folder, it has no results yet, or the given table is wrong.
    """
    run = _read(run_directory, table)
    paper = paper_table(run, run.table or _table_of_everything(run))
    return str(_TABLE_WRITERS[form](paper)).rstrip("\n") + "\n"


def _table_of_everything(run: Run) -> TableSpec:
    columns = [{"stage": column.stage, "metric": column.metric} for column in metric_columns(compare([run]))]
    if not columns:
        raise SpecError(f"run {run.name!r} has no results yet; run a stage that evaluates to its end first")
    return TableSpec.model_validate({"columns": columns})


def _read(directory: Path, table: Path | None) -> Run:
    run = read_run(directory)
    if table is None:
        return run
    variants = list(dict.fromkeys(run.seeds.get(name, (name, 0))[0] for name in run.variants))
    stages = list(dict.fromkeys(stage for stages in run.variants.values() for stage in stages))
    return attrs.evolve(run, table=read_table(table, variants, stages))


__all__ = ["TABLE_FORMATS", "TableFormat", "build_report", "render_table"]
