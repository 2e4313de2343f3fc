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


@attrs.frozen(kw_only=True, eq=False)
class ReportFigure:
    """A figure and what is said about it.

    Attributes:
        name: file name without suffix.
        title: heading.
        caption: how to read it; may be empty.
        alt: what it shows, for readers who cannot see it.
        figure: the drawing.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure

    def save(self, directory: Path) -> None:
        """Writes ``name.svg`` and ``name.png``. Equal input gives equal files."""
        directory.mkdir(parents=True, exist_ok=True)
        with _appearance(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.figure.savefig(directory / f"{self.name}.svg", format="svg", metadata={"Date": None})
            self.figure.savefig(directory / f"{self.name}.png", format="png", dpi=160)


@contextmanager
def _appearance() -> Iterator[None]:
    with mpl.rc_context(_APPEARANCE):
        yield


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure in the report's appearance, sizes in inches, and its axes row by row."""
    with _appearance():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        return figure, list(axes.flat)


def plain_text(text: str) -> str:
    """Text that matplotlib draws letter by letter: no mathematics, and no leading underscore that hides a label."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def label_of(line: Line2D) -> str:
    """The label of a legend entry as it was before ``plain_text``."""
    return str(line.get_label()).replace(r"\$", "$").strip()


def legend_line(label: str, style: LineStyle, marker: str = "") -> Line2D:
    """An entry of a legend."""
    return Line2D(
        [],
        [],
        color=style.color,
        linestyle=style.matplotlib_dashes,
        linewidth=style.width,
        marker=marker,
        markersize=5,
        label=plain_text(label),
    )


def add_legend(figure: Figure, lines: Sequence[Line2D]) -> None:
    """Puts a legend above the axes, in as many columns as the names leave room for."""
    if not lines:
        return
    room = figure.get_figwidth() * 72 / 6.0
    longest = max(len(str(line.get_label())) for line in lines)
    columns = max(1, min(len(lines), int(room / (longest + 8))))
    with _appearance():
        figure.legend(handles=list(lines), loc="outside upper left", ncols=columns)


def file_name(text: str) -> str:
    """A file name without suffix that is safe everywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "figure"
