"""The look of figures, and how they are written.

Figures are made with matplotlib's objects alone: no pyplot, no global state. Lines differ in lightness, dash and
marker, so that they can be told apart in grayscale.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 150

#: Keyword arguments of ``Axes.plot`` for what every figure shows in the same way.
LATENTS: dict[str, Any] = {"color": "#123f7a", "linestyle": "-", "linewidth": 2.0, "marker": "o"}
RGB_POOLED: dict[str, Any] = {"color": "#b9500f", "linestyle": "--", "linewidth": 1.6, "marker": "s"}
RGB: dict[str, Any] = {"color": "#8f8f8f", "linestyle": "-.", "linewidth": 1.6, "marker": "^"}


def new_axes(width: float = 6.4, height: float = 4.2) -> tuple[Figure, Axes]:
    """A figure of that size in inches, with one pair of styled axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    style(axes)
    return figure, axes


def style(axes: Axes) -> None:
    """Gives axes the look of all figures."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)


def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Writes ``NAME.png`` and ``NAME.svg``; the same figure gives the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.png", directory / f"{name}.svg"]
    figure.savefig(paths[0], dpi=DPI)
    with mpl.rc_context({"svg.hashsalt": "diffusability"}):
        figure.savefig(paths[1], dpi=DPI, metadata={"Date": None})
    return paths
