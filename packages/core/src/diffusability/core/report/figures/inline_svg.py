"""Figures as pieces of a page: an SVG of each panel in the page's colours and font, with its values for the pointer."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree as ET

import attrs
import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from diffusability.core.report.figures.report_figure import ReportFigure, appearance, readable_text
from diffusability.core.report.figures.theme import variable, with_variables

#: Points of an SVG in an inch.
_POINTS = 72.0
_PIXELS_IN_POINT = 96 / 72
#: Room around a panel, in points.
_MARGIN = 3.0
#: Values that the pointer can reach: of a line, and of a panel of many lines.
MOST_OF_LINE, MOST_OF_PANEL, FEWEST_OF_LINE = 120, 720, 16
#: Lines of many points lose those that would move them by less than this, in points.
_SIMPLIFIED = 0.5
_PANEL = "panel-"
_LINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DECIMALS = re.compile(r"-?\d+\.\d{2,}")
_FAMILY = re.compile(r"font-family: ?[^;]*;? ?")
_PATH_STEP = re.compile(r"\s*([A-Za-z])\s*")


@attrs.frozen(kw_only=True, eq=False)
class Panel:
    """One pair of axes of a figure.

    Attributes:
        svg: what is inside of the ``svg`` element.
        view_box: its part of the figure: left, top, width and height in points.
        series: of each line with a label: ``label``, ``color``, and by point its place in the SVG (``px``, ``py``) and
            its values (``x``, ``y``).
        axis: the name of the abscissa.
        title: the panel's own title; empty where it has none.
    """

    svg: Markup
    view_box: tuple[float, float, float, float]
    series: Sequence[dict[str, Any]]
    axis: str
    title: str

    @property
    def width(self) -> int:
        """In CSS pixels, at which its text is as large as the page's small print."""
        return round(self.view_box[2] * _PIXELS_IN_POINT)


def panels(drawn: ReportFigure) -> list[Panel]:
    """The visible axes of a figure, row by row, without its legend."""
    figure = drawn.figure
    visible = [axes for axes in figure.axes if axes.get_visible()]
    with _for_a_page(figure, visible):
        root = ET.fromstring(_svg(figure))
        boxes = _view_boxes(figure, visible)
        series = [_all_series(figure, axes) for axes in visible]
    by_id = {element.get("id", ""): element for element in root.iter()}
    return [
        Panel(
            svg=_markup(by_id[f"{_PANEL}{place}"], by_id, f"{drawn.name}-{place}-"),
            view_box=box,
            series=lines,
            axis=readable_text(axes.get_xlabel()),
            title=readable_text(axes.get_title(loc="left")),
        )
        for place, (axes, box, lines) in enumerate(zip(visible, boxes, series, strict=True))
    ]


@contextmanager
def _for_a_page(figure: Figure, visible: Sequence[Axes]) -> Iterator[None]:
    """Without legends, axes with names; as it was, afterwards."""
    for legend in figure.legends:
        legend.set_visible(False)
    for place, axes in enumerate(visible):
        axes.set_gid(f"{_PANEL}{place}")
    lines = [line for axes in visible for line in axes.get_lines()]
    try:
        with (
            appearance(svg__fonttype="none", path__simplify_threshold=_SIMPLIFIED),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            for line in lines:
                line.recache(always=True)  # a path takes its threshold when it is made
            yield
    finally:
        for line in lines:
            line.recache(always=True)
        for legend in figure.legends:
            legend.set_visible(True)
        for axes in visible:
            axes.set_gid(None)


def _svg(figure: Figure) -> str:
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def _view_boxes(figure: Figure, visible: Sequence[Axes]) -> list[tuple[float, float, float, float]]:
    """Of each panel, all that belongs to it; those of one row have the same height."""
    scale = _POINTS / figure.dpi
    extents = [box for axes in visible if (box := axes.get_tightbbox()) is not None]
    rows = [getattr(axes.get_subplotspec(), "rowspan", range(1)).start for axes in visible]
    whole = {row: Bbox.union([box for box, other in zip(extents, rows, strict=True) if other == row]) for row in rows}
    boxes = []
    for box, row in zip(extents, rows, strict=True):
        top = figure.get_figheight() * _POINTS - whole[row].y1 * scale
        numbers = (
            box.x0 * scale - _MARGIN,
            top - _MARGIN,
            box.width * scale + 2 * _MARGIN,
            whole[row].height * scale + 2 * _MARGIN,
        )
        left, upper, width, height = (round(float(number), 1) for number in numbers)
        boxes.append((left, upper, width, height))
    return boxes


def _all_series(figure: Figure, axes: Axes) -> list[dict[str, Any]]:
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    most = max(FEWEST_OF_LINE, min(MOST_OF_LINE, MOST_OF_PANEL // max(1, len(lines))))
    return [_series(figure, line, most) for line in lines]


def _series(figure: Figure, line: Line2D, most: int) -> dict[str, Any]:
    x, y = (np.asarray(values, dtype=np.float64) for values in line.get_data())
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(known) > most:
        known = known[np.linspace(0, len(known) - 1, most).round().astype(int)]
    assert line.axes is not None
    places = line.axes.transData.transform(np.stack([x[known], y[known]], axis=1)) * _POINTS / figure.dpi
    return {
        "label": readable_text(str(line.get_label())),
        "color": variable(str(line.get_color())),
        "px": np.round(places[:, 0], 1).tolist(),
        "py": np.round(figure.get_figheight() * _POINTS - places[:, 1], 1).tolist(),
        "x": _short(x[known]),
        "y": _short(y[known]),
    }


def _short(values: Float[np.ndarray, " n"]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _markup(panel: ET.Element, by_id: dict[str, ET.Element], prefix: str) -> Markup:
    """An element with all that it refers to, in the page's terms: no names of namespaces, names of its own."""
    inside = {element.get("id") for element in panel.iter()}
    needed: dict[str, ET.Element] = {}
    waiting = [panel]
    while waiting:
        for name in _references(waiting.pop()):
            if name not in needed and name in by_id:
                needed[name] = by_id[name]
                waiting.append(by_id[name])
    names = {name: f"{prefix}{place}" for place, name in enumerate(needed)}
    outside = [_rewritten(element, names) for name, element in needed.items() if name not in inside]
    definitions = f"<defs>{''.join(outside)}</defs>" if outside else ""
    return Markup(definitions + _rewritten(panel, names))


def _references(element: ET.Element) -> Iterator[str]:
    for part in element.iter():
        for key, value in part.attrib.items():
            if key == _LINK:
                yield value.removeprefix("#")
            else:
                yield from _REFERENCE.findall(value)


def _rewritten(element: ET.Element, names: dict[str, str]) -> str:
    children = "".join(_rewritten(child, names) for child in element)
    tag = element.tag.rpartition("}")[2]
    written = "".join(
        Markup(' {}="{}"').format(key.rpartition("}")[2], value) for key, value in _attributes(element, names)
    )
    if tag == "g" and not written:
        return children
    text = str(Markup.escape(element.text.strip())) if element.text and element.text.strip() else ""
    return f"<{tag}{written}>{text}{children}</{tag}>"


def _attributes(element: ET.Element, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        if key == "id":
            if value in names:
                yield key, names[value]
        elif key == _LINK:
            yield key, f"#{names.get(value.removeprefix('#'), '')}"
        elif key == "style":
            yield key, _style(value)
        elif key == "d":
            yield key, _PATH_STEP.sub(r"\1", _rounded(value)).strip()
        else:
            yield key, _rounded(_REFERENCE.sub(lambda match: f"url(#{names.get(match[1], '')})", value))


def _style(style: str) -> str:
    return _rounded(with_variables(_FAMILY.sub("", style)))


def _rounded(text: str) -> str:
    return _DECIMALS.sub(lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), text)
