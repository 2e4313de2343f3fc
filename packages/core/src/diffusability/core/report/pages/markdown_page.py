"""The report as GitHub markdown, with relative links to figures and pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from diffusability.core.report.comparison import Comparison, run_labels
from diffusability.core.report.figures.pictures import PictureRow
from diffusability.core.report.figures.report_figure import ReportFigure
from diffusability.core.report.pages.contents import Contents
from diffusability.core.report.pages.glossary import METRICS, THIS_REPORT, GlossaryEntry
from diffusability.core.report.pages.markdown_text import escape, table
from diffusability.core.report.pages.stage_list import relative_link, stage_lines
from diffusability.core.report.tables.metric_table import Cell, Column
from diffusability.core.report.tables.number_format import ABSENT, format_date
from diffusability.core.report.tables.paper_table_markdown import paper_table_markdown


def render_markdown(contents: Contents, output: Path) -> str:
    """The page. Figures are expected under ``output / "figures"``."""
    sections = [
        *_header(contents),
        *_results(contents),
        *_figures("Spectra and other curves", contents.curves),
        *_pictures("Samples", contents.samples, output),
        *_pictures("Pictures", contents.pictures, output),
        *_figures("Training", [*contents.training, *contents.optimisation]),
        *_glossary(contents.glossary),
        *_details(contents.comparison, output),
    ]
    return "\n\n".join(sections) + "\n"


def _header(contents: Contents) -> Iterator[str]:
    comparison = contents.comparison
    yield f"# {escape(comparison.title)}"
    dates = [
        f"{escape(label)}: {escape(format_date(run.created))}" if len(comparison.runs) > 1 else format_date(run.created)
        for label, run in zip(run_labels(comparison.runs), comparison.runs, strict=True)
        if run.created
    ]
    yield " · ".join([str(contents.progress), *dates])
    if comparison.remarks:
        yield "\n".join(["Before you read the numbers:", "", *(f"- {escape(remark)}" for remark in comparison.remarks)])
    seeds = {0: "", 1: " · one seed"}.get(comparison.num_seeds, f" · {comparison.num_seeds} seeds")
    yield "Variants: " + ", ".join(escape(variant.label) for variant in comparison.groups) + seeds
    for sentence in contents.verdicts:
        yield f"**{escape(sentence)}**"


def _results(contents: Contents) -> Iterator[str]:
    for paper in contents.tables:
        yield "## Table"
        yield paper_table_markdown(paper)
    yield "## Results"
    if not contents.columns:
        yield "No results yet."
        return
    variants = contents.comparison.groups
    for stage in dict.fromkeys(column.stage for column in contents.columns):
        columns = [column for column in contents.columns if column.stage == stage]
        rows = [
            [escape(variant.label), *(_cell(column.cells[place]) for column in columns)]
            for place, variant in enumerate(variants)
        ]
        if any(column.reference for column in columns):
            rows.append(["images themselves", *(column.reference for column in columns)])
        yield f"### {escape(stage)}"
        yield table(["variant", *(_heading(column) for column in columns)], rows, numeric=True)
    remarks = "↑ higher is better, ↓ lower is better; columns without an arrow are not ranked."
    if contents.comparison.num_seeds > 1:
        remarks = f"{remarks} Numbers are means over seeds, ±: standard deviation over seeds."
    if len(variants) > 1:
        how = f" ({escape(contents.how_compared)})" if contents.how_compared else ""
        remarks = (
            f"Bold: the best of its column; in parentheses: difference from {escape(variants[0].label)} and its 95%"
            f" interval{how}; a difference is significant where that excludes 0. {remarks}"
        )
    yield remarks
    for column in contents.columns:
        if column.warning:
            yield f"† {escape(f'{column.stage}, {column.label}: {column.warning}')}; compare with care."
    if contents.notes:
        yield "\n".join(["Notes on the numbers:", "", *(f"- {escape(note)}" for note in contents.notes)])


def _heading(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    arrow = f" {column.arrow}" if column.arrow else ""
    return escape(f"{column.label}{unit}{arrow}") + (" †" if column.warning else "")


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    text = f"{text} {cell.spread}" if cell.spread else text
    difference = " ".join(filter(None, (cell.delta, escape(cell.interval))))
    return f"{text} ({difference})" if difference else text


def _figures(heading: str, figures: Sequence[ReportFigure]) -> Iterator[str]:
    if figures:
        yield f"## {heading}"
    for figure in figures:
        yield f"### {escape(figure.title)}"
        yield f"![{escape(figure.alt)}](figures/{figure.name}.png)"
        if figure.caption:
            yield figure.caption


def _pictures(heading: str, rows: Sequence[PictureRow], output: Path) -> Iterator[str]:
    if rows:
        yield f"## {heading}"
    for row in rows:
        title = escape(f"{row.stage}: {row.title}" if row.title else row.stage)
        yield f"### {title}"
        labels = [escape(", ".join(filter(None, (picture.label, picture.note)))) for picture in row.pictures]
        cells = [
            f"![{title} of {escape(picture.label)}]({relative_link(picture.path, output)})" if picture.path else ABSENT
            for picture in row.pictures
        ]
        yield table(labels, [cells])


def _glossary(entries: Sequence[GlossaryEntry]) -> Iterator[str]:
    if entries:
        yield "## Glossary"
        yield "\n".join(_glossary_line(entry) for entry in entries)


def _glossary_line(entry: GlossaryEntry) -> str:
    about = f" (`{entry.name}`)" if entry.group == METRICS else f" ({entry.group})"
    return f"- **{escape(entry.term)}**{'' if entry.group == THIS_REPORT else about}: {escape(entry.meaning)}"


def _details(comparison: Comparison, output: Path) -> Iterator[str]:
    yield "## Run details"
    rows = []
    for line in stage_lines(comparison, output):
        folder = f"[{escape(line.folder)}]({line.link})" if line.link else escape(line.folder)
        cells = (line.stage, line.kind, line.variants, line.status, line.progress, line.seconds, line.speed)
        rows.append([*map(escape, cells), folder])
    yield table(["stage", "kind", "variants", "status", "progress", "took", "speed", "folder"], rows)
    for label, run in zip(run_labels(comparison.runs), comparison.runs, strict=True):
        versions = ", ".join(f"{package} {version}" for package, version in run.versions.items())
        facts = [f"made by {run.command}" if run.command else "", f"versions: {versions}" if versions else ""]
        known = [fact for fact in facts if fact]
        if known:
            yield escape(f"{label}: {'; '.join(known)}")
        for note in run.notes:
            yield f"Could not be read: {escape(note)}"
