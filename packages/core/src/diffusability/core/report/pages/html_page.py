"""The report as one HTML file that needs nothing else: styles, figures and pictures are inside."""

from functools import cache
from importlib import resources
from pathlib import Path

import attrs
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from diffusability.core.report.comparison import run_labels
from diffusability.core.report.figures.line_styles import LineStyle
from diffusability.core.report.figures.pictures import EmbeddedPicture, Picture, PictureRow, data_uri, embed
from diffusability.core.report.figures.report_figure import ReportFigure
from diffusability.core.report.pages.contents import Contents
from diffusability.core.report.pages.stage_list import relative_link, stage_lines
from diffusability.core.report.tables.metric_table import Column, column_blocks
from diffusability.core.report.tables.number_format import ABSENT, format_date
from diffusability.core.report.tables.paper_table_html import paper_table_html


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
    pictures: list[ShownPicture]


def render_html(contents: Contents, output: Path) -> str:
    """The page. The report's own figures must have been saved under ``output / "figures"``."""
    comparison = contents.comparison
    notes = [note for run in comparison.runs for note in run.notes]
    rows = {
        name: [_shown_row(row, output, notes) for row in shown]
        for name, shown in (("samples", contents.samples), ("pictures", contents.pictures), ("plots", contents.plots))
    }
    return _template().render(
        contents=contents,
        comparison=comparison,
        blocks=column_blocks(contents.columns),
        runs=list(zip(run_labels(comparison.runs), comparison.runs, strict=True)),
        tables=[paper_table_html(paper) for paper in contents.tables],
        stages=stage_lines(comparison, output),
        rows=rows,
        notes=list(dict.fromkeys(notes)),
        style_sheet=Markup(_resource("report.css")),
        figure_uri=lambda figure: _figure_uri(figure, output),
        swatch_dashes=LineStyle.svg_dashes,
        format_date=format_date,
        absent=ABSENT,
    )


def _shown_row(row: PictureRow, output: Path, notes: list[str]) -> ShownRow:
    pictures = [
        ShownPicture(
            picture=picture,
            content=embed(picture.path, notes) if picture.path else None,
            link=relative_link(picture.path, output) if picture.path else "",
        )
        for picture in row.pictures
    ]
    return ShownRow(heading=f"{row.stage}: {row.title}" if row.title else row.stage, pictures=pictures)


def _has_reference(block: list[tuple[str, list[Column]]]) -> bool:
    return any(column.reference for _, columns in block for column in columns)


def _figure_uri(figure: ReportFigure, output: Path) -> str:
    return data_uri((output / "figures" / f"{figure.name}.svg").read_bytes(), "image/svg+xml")


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["has_reference"] = _has_reference
    return environment.from_string(_resource("report.html.j2"))
