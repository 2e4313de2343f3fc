"""The report as one HTML file that needs nothing else: styles, figures and pictures are inside."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import attrs
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from diffusability.core.report.comparison import run_labels
from diffusability.core.report.figures.embedded_pictures import EmbeddedPicture, embed, share_of_budget
from diffusability.core.report.figures.inline_svg import Panel, panels
from diffusability.core.report.figures.pictures import Picture, PictureRow
from diffusability.core.report.figures.report_figure import ReportFigure
from diffusability.core.report.figures.theme import theme_css, variable
from diffusability.core.report.pages.contents import Contents
from diffusability.core.report.pages.glossary import METRICS, anchor
from diffusability.core.report.pages.stage_list import relative_link, stage_lines
from diffusability.core.report.tables.metric_table import Column
from diffusability.core.report.tables.number_format import ABSENT, format_date, readable_unit
from diffusability.core.report.tables.paper_table_html import paper_table_html

#: More metrics than these are rows of the table of results, and variants its columns.
MOST_COLUMNS = 8
_INTERVAL = re.compile(r"\[[^][]*\]")
_FILE_LINK = re.compile(r'(<a href=")([^"#][^"]*)"')


@attrs.frozen(kw_only=True, eq=False)
class ShownPicture:
    """A picture with its place in the page. ``content`` is None where there is nothing to show."""

    picture: Picture
    content: EmbeddedPicture | None
    link: str


@attrs.frozen(kw_only=True, eq=False)
class ShownRow:
    """A row of pictures in the page."""

    heading: str
    anchor: str
    pictures: list[ShownPicture]


@attrs.frozen(kw_only=True, eq=False)
class ShownFigure:
    """A figure in the page."""

    figure: ReportFigure
    anchor: str
    panels: Sequence[Panel]

    @property
    def width(self) -> int:
        """Of all panels side by side, in CSS pixels."""
        return sum(panel.width for panel in self.panels)


@attrs.frozen(kw_only=True)
class Section:
    """An entry of the table of contents, with those below it."""

    title: str
    anchor: str
    parts: Sequence["Section"] = ()


def render_html(contents: Contents, output: Path) -> str:
    """The page; links to files are relative to ``output``."""
    comparison = contents.comparison
    notes = [note for run in comparison.runs for note in run.notes]
    figures = {
        name: [ShownFigure(figure=figure, anchor=f"figure-{figure.name}", panels=panels(figure)) for figure in shown]
        for name, shown in (
            ("curves", contents.curves),
            ("training", contents.training),
            ("optimisation", contents.optimisation),
        )
    }
    rows = _shown_rows(contents, output, notes)
    stages = _by_stage(contents.columns)
    return _template().render(
        contents=contents,
        comparison=comparison,
        sections=_sections(contents, figures, rows),
        stages_of_metrics=list(stages.items()),
        as_rows=len(contents.columns) > MOST_COLUMNS,
        has_reference=any(column.reference for column in contents.columns),
        runs=list(zip(run_labels(comparison.runs), comparison.runs, strict=True)),
        tables=[paper_table_html(paper) for paper in contents.tables],
        stages=stage_lines(comparison, output),
        figures=figures,
        rows=rows,
        notes=list(dict.fromkeys(notes)),
        style_sheet=Markup(theme_css() + _resource("report.css")),
        script=Markup(_resource("report.js")),
        format_date=format_date,
        absent=ABSENT,
    )


def moved_page(page: str, folder: Path, target: Path) -> str:
    """A page whose links are relative to ``folder``, for a copy in the folder ``target``."""
    way = relative_link(folder, target)
    return _FILE_LINK.sub(lambda link: f'{link[1]}{way}/{link[2]}"', page)


def _whole_intervals(sentence: str) -> str:
    """A sentence whose intervals are not broken into two lines."""
    return _INTERVAL.sub(lambda interval: interval[0].replace(" ", "\u00a0"), sentence)


def _by_stage(columns: Sequence[Column]) -> dict[str, list[Column]]:
    stages: dict[str, list[Column]] = {}
    for column in columns:
        stages.setdefault(column.stage, []).append(column)
    return stages


def _shown_rows(contents: Contents, output: Path, notes: list[str]) -> dict[str, list[ShownRow]]:
    named = {"samples": contents.samples, "pictures": contents.pictures, "plots": contents.plots}
    every = [picture for rows in named.values() for row in rows for picture in row.pictures if picture.path]
    most = share_of_budget(len(every))
    return {
        name: [
            _shown_row(row, f"{name}-{place}", lambda picture: embed(picture, most, notes), output)
            for place, row in enumerate(rows)
        ]
        for name, rows in named.items()
    }


def _shown_row(
    row: PictureRow, name: str, embedded: Callable[[Picture], EmbeddedPicture | None], output: Path
) -> ShownRow:
    pictures = [
        ShownPicture(
            picture=picture,
            content=embedded(picture),
            link=relative_link(picture.path, output) if picture.path else "",
        )
        for picture in row.pictures
    ]
    return ShownRow(heading=f"{row.stage}: {row.title}" if row.title else row.stage, anchor=name, pictures=pictures)


def _sections(
    contents: Contents, figures: dict[str, list[ShownFigure]], rows: dict[str, list[ShownRow]]
) -> list[Section]:
    """The table of contents: what the page has, in its order."""

    def of_figures(name: str) -> list[Section]:
        return [Section(title=shown.figure.title, anchor=shown.anchor) for shown in figures[name]]

    def of_rows(name: str) -> list[Section]:
        return [Section(title=row.heading, anchor=row.anchor) for row in rows[name]]

    return [
        section
        for section, present in (
            (Section(title="Verdict", anchor="verdict"), contents.verdicts),
            (Section(title="Key results", anchor="keys"), contents.keys),
            (Section(title="Table", anchor="table"), contents.tables),
            (Section(title="Results", anchor="results"), True),
            (Section(title="Curves", anchor="curves", parts=of_figures("curves")), contents.curves),
            (Section(title="Samples", anchor="samples", parts=of_rows("samples")), contents.samples),
            (Section(title="Pictures", anchor="pictures", parts=of_rows("pictures")), contents.pictures),
            (
                Section(title="Training", anchor="training", parts=of_figures("training")),
                [*contents.training, *contents.optimisation],
            ),
            (Section(title="Glossary", anchor="glossary"), contents.glossary),
            (Section(title="Run details", anchor="details"), True),
        )
        if present
    ]


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["variable"] = variable
    environment.filters["whole_intervals"] = _whole_intervals
    environment.filters["readable_unit"] = readable_unit
    environment.filters["metric_anchor"] = lambda metric: anchor(METRICS, metric)
    return environment.get_template("report.html.j2")
