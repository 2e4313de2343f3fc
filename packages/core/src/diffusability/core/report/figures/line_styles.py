"""Colours and dashes of lines. Each variant differs in both, so that figures also read in grayscale."""

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class LineStyle:
    """How a line is drawn. Dashes are lengths of ink and gap in line widths; empty is solid."""

    color: str
    dashes: tuple[float, ...] = ()
    width: float = 2.0

    @property
    def matplotlib_dashes(self) -> Literal["solid"] | tuple[float, tuple[float, ...]]:
        """The line style in matplotlib's terms."""
        return (0, self.dashes) if self.dashes else "solid"

    def svg_dashes(self, width: float) -> str:
        """``stroke-dasharray`` of an SVG line of that width."""
        return " ".join(f"{length * width:g}" for length in self.dashes)


# Hues that stay apart for the common colour-vision deficiencies, neighbours of unlike lightness, each with a contrast
# of at least 3 on white (WCAG 2.2, 1.4.11).
COLORS = ("#1f5fa8", "#d27200", "#0b8a6f", "#c2477f", "#3a96d0", "#7a4a16", "#6a51c4", "#8a9612")
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5, 1.5),
    (1.6, 1.2),
    (6, 1.5, 1.5, 1.5),
    (3, 1),
    (8, 1.5, 1.5, 1.5, 1.5, 1.5),
    (10, 2.5),
)
#: A line that stands for all variants, since they share the stage it comes from.
SHARED = LineStyle(color="#5c6370", width=2.4)
#: Width of lines of single seeds, where several are drawn.
SEED_WIDTH = 1.1
#: Dashes of the references on one axis, in turn.
REFERENCE_DASHES = ((4.0, 2.5), (1.0, 2.2))
REFERENCE_COLORS = ("#000000", "#4d4d4d", "#707070", "#8c8c8c")
#: Markers that tell stages apart where several are on one axis.
STAGE_MARKERS = ("o", "s", "^", "D", "v", "P")


def variant_style(index: int) -> LineStyle:
    """The style of the variant at that place; the first 56 differ."""
    return LineStyle(color=COLORS[index % len(COLORS)], dashes=DASHES[index % len(DASHES)])


def reference_style(index: int, dashes: tuple[float, ...]) -> LineStyle:
    """The style of the reference at that place."""
    return LineStyle(color=REFERENCE_COLORS[index % len(REFERENCE_COLORS)], dashes=dashes, width=1.7)
