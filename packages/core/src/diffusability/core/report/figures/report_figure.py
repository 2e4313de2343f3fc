"""A drawn figure: its place in the report, and its files."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diffusability.core.report.figures.line_styles import LineStyle

_APPEARANCE: dict[Any, object] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 10.0,
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#8a8f98",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-3, 5),
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.7,
    "xtick.color": "#555b65",
    "ytick.color": "#555b65",
    "legend.frameon": False,
    "legend.handlelength": 3.4,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "diffusability",
}


@attrs.frozen(kw_only=True)
class LegendEntry:
    """What a line of a figure stands for. ``marker`` is matplotlib's."""

    label: str
    style: LineStyle
    marker: str = ""


@attrs.frozen(kw_only=True, eq=False)
class ReportFigure:
    """A figure and what is said about it.

    Attributes:
        name: file name without suffix.
        title: heading.
        caption: how to read it; may be empty.
        alt: what it shows, for readers who cannot see it.
        figure: the drawing, its legend included. Lines with a label are those whose values a reader may ask for.
        legend: the entries of the legend, for pages that write it as text.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    legend: Sequence[LegendEntry] = ()

    def save(self, directory: Path) -> None:
        """Writes ``name.svg`` and ``name.png``. Equal input gives equal files."""
        directory.mkdir(parents=True, exist_ok=True)
        with appearance(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.figure.savefig(directory / f"{self.name}.svg", format="svg", metadata={"Date": None})
            self.figure.savefig(directory / f"{self.name}.png", format="png", dpi=160)


@contextmanager
def appearance(**changes: object) -> Iterator[None]:
    """The report's settings of matplotlib, with changes whose dots are written as ``__``."""
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    with mpl.rc_context(_APPEARANCE | changed):
        yield


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, width_ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """An empty figure in the report's appearance, sizes in inches, and its axes row by row."""
    with appearance():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, width_ratios=width_ratios)
        return figure, list(axes.flat)


def plain_text(text: str) -> str:
    """Text that matplotlib draws letter by letter: no mathematics, and no leading underscore that hides a label."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def readable_text(text: str) -> str:
    """Text as it was before ``plain_text``."""
    return text.replace(r"\$", "$").strip()


def add_legend(figure: Figure, entries: Sequence[LegendEntry]) -> None:
    """Puts a legend above the axes, in as many columns as the names leave room for."""
    if not entries:
        return
    room = figure.get_figwidth() * 72 / 6.0
    longest = max(len(entry.label) for entry in entries)
    columns = max(1, min(len(entries), int(room / (longest + 8))))
    with appearance():
        figure.legend(handles=[_legend_line(entry) for entry in entries], loc="outside upper left", ncols=columns)


def _legend_line(entry: LegendEntry) -> Line2D:
    return Line2D(
        [],
        [],
        color=entry.style.color,
        linestyle=entry.style.matplotlib_dashes,
        linewidth=entry.style.width,
        marker=entry.marker,
        markersize=5,
        label=plain_text(entry.label),
    )


def file_name(text: str) -> str:
    """A file name without suffix that is safe everywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "figure"
