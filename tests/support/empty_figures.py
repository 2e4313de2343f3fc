"""Figures that no assertion looks at, written empty: drawing a report takes longer than a tiny run."""

import io
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

from matplotlib.figure import Figure

from diffusability.core.report.pages import html_page

draw = Figure.savefig
draw_panels = html_page.panels


@cache
def empty_figure(suffix):
    """The bytes of a figure without content."""
    file = io.BytesIO()
    draw(Figure(figsize=(0.1, 0.1)), file, format=suffix)
    return file.getvalue()


def write_empty(figure, target, format=None, **options):  # noqa: A002 - the name of savefig's option
    """In the place of ``Figure.savefig``: into a file that is named by a path, or that is open."""
    content = empty_figure(format or Path(target).suffix[1:])
    if isinstance(target, io.StringIO):
        target.write(content.decode())
    elif hasattr(target, "write"):
        target.write(content)
    else:
        Path(target).write_bytes(content)


def no_panels(drawn):
    """In the place of the panels of a figure on a page."""
    return []


def leave_figures_empty():
    """From now on, in this process and its forks."""
    Figure.savefig = write_empty
    html_page.panels = no_panels


@contextmanager
def figures(drawn):
    """Figures are drawn, or left empty, for the time of a ``with`` block."""
    with (
        patch.object(Figure, "savefig", draw if drawn else write_empty),
        patch.object(html_page, "panels", draw_panels if drawn else no_panels),
    ):
        yield
