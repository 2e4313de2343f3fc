"""The report's colours, each for a light and a dark ground, and the style sheet that switches between them.

Figures are drawn in light colours. In the page these become variables, so that figures follow the page.
"""

import re
from collections.abc import Mapping

import attrs

from diffusability.core.report.figures.line_styles import COLORS, REFERENCE_COLORS, SHARED


@attrs.frozen
class Shade:
    """A colour on a light and on a dark ground, as ``#rrggbb``."""

    light: str
    dark: str


_DARK_LINES = ("#6aa3f0", "#f2a03d", "#35c4a2", "#ef7fb2", "#a8dcff", "#c8966a", "#ab98f7", "#d3dc5a")
_DARK_REFERENCES = ("#f4f5f7", "#c9ced6", "#a3a9b4", "#858c98")

#: Colours of lines in figures and of the swatches that name them.
LINES: Mapping[str, Shade] = {
    **{f"line-{place}": Shade(*pair) for place, pair in enumerate(zip(COLORS, _DARK_LINES, strict=True), 1)},
    **{
        f"reference-{place}": Shade(*pair)
        for place, pair in enumerate(zip(REFERENCE_COLORS, _DARK_REFERENCES, strict=True), 1)
    },
    "shared": Shade(SHARED.color, "#9aa2b0"),
}
#: Colours of text, each to be read on ``ground`` and on ``soft``.
TEXT: Mapping[str, Shade] = {
    "ink": Shade("#1d2127", "#e7e9ed"),
    "quiet": Shade("#586170", "#a4abb8"),
    "link": Shade("#1c589c", "#8ab8f5"),
    "better": Shade("#14632a", "#6fd08c"),
    "worse": Shade("#963800", "#ffa874"),
    "figure-text": Shade("#333333", "#ccd0d7"),
    "figure-ticks": Shade("#555b65", "#aab0bb"),
}
GROUNDS: Mapping[str, Shade] = {
    "ground": Shade("#ffffff", "#14171c"),
    "soft": Shade("#f5f6f8", "#1d2128"),
    "leading": Shade("#eef3fa", "#1c2a3f"),
    "warning": Shade("#fdf7e6", "#2c2513"),
}
#: Edges and lines that carry no meaning by themselves.
EDGES: Mapping[str, Shade] = {
    "line": Shade("#e2e5ea", "#323843"),
    "leading-edge": Shade("#5d7fae", "#6f97cf"),
    "warning-edge": Shade("#c9a03a", "#a98a3c"),
    "figure-edge": Shade("#8a8f98", "#6d7480"),
    "figure-grid": Shade("#e3e5e8", "#2b3038"),
}
#: Text and ground of the marks that say how far a run has come.
MARKS: Mapping[str, Shade] = {
    "mark-text": Shade("#444b56", "#c3c8d1"),
    "mark-edge": Shade("#8f96a2", "#6d7480"),
    "done-text": Shade("#17592b", "#8fdca6"),
    "done-ground": Shade("#eef8f0", "#14291b"),
    "done-edge": Shade("#5fa173", "#3f8455"),
    "failed-text": Shade("#8f1d0e", "#ffb0a4"),
    "failed-ground": Shade("#fdf0ee", "#351a16"),
    "failed-edge": Shade("#c9695a", "#b25a4c"),
    "running-text": Shade("#6d4f00", "#f0cd76"),
    "running-ground": Shade("#fdf7e6", "#2c2513"),
    "running-edge": Shade("#b98f2d", "#a98a3c"),
}
SHADES: Mapping[str, Shade] = {**GROUNDS, **TEXT, **EDGES, **MARKS, **LINES}

_HEX = re.compile(r"#[0-9a-f]{6}\b")
_VARIABLES = {shade.light: f"var(--{name})" for group in (LINES, EDGES, TEXT) for name, shade in group.items()} | {
    GROUNDS["ground"].light: "var(--ground)"
}


def variable(color: str) -> str:
    """The page's variable for a colour of figures; the colour itself where the page has none."""
    return _VARIABLES.get(color.lower(), color)


def with_variables(style: str) -> str:
    """A style with the page's variables in place of the colours that it has."""
    return _HEX.sub(lambda match: variable(match[0]), style)


def theme_css() -> str:
    """The variables: as the reader's system asks for, or as chosen by the page's switch; on paper always light."""
    light = _declarations({name: shade.light for name, shade in SHADES.items()}, "light")
    dark = _declarations({name: shade.dark for name, shade in SHADES.items()}, "dark")
    return (
        f":root {{ {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root:not(:has(#theme-light:checked)) {{ {dark} }} }}\n"
        f"@media screen {{ :root:has(#theme-dark:checked) {{ {dark} }} }}\n"
    )


def _declarations(colors: Mapping[str, str], scheme: str) -> str:
    return " ".join([f"color-scheme: {scheme};", *(f"--{name}: {color};" for name, color in colors.items())])
