"""Figures of metrics that are curves: one axis per metric, all variants on it, with the references it names."""

from collections.abc import Iterator, Sequence
from itertools import cycle

import attrs
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from diffusability.core.report.comparison import Comparison
from diffusability.core.report.figures.line_styles import (
    REFERENCE_DASHES,
    SEED_WIDTH,
    STAGE_MARKERS,
    LineStyle,
    reference_style,
)
from diffusability.core.report.figures.report_figure import (
    LegendEntry,
    ReportFigure,
    add_legend,
    file_name,
    new_figure,
    plain_text,
)
from diffusability.core.run.metric_names import info_of, named_info
from diffusability.core.run.results import MetricCurve
from diffusability.core.run.training_log import is_wide
from diffusability.core.specs.metric_info import MetricInfo

#: Where references make the range of ordinates wider than the variants' own by more than this factor, the variants have
#: a panel of their own range beside one of the whole.
FLATTENED = 1.8


@attrs.frozen(kw_only=True)
class Reference:
    """A curve that is drawn on the axis of another one, such as the images' own on that of the latents."""

    metric: str
    label: str
    dashes: tuple[float, ...]


@attrs.frozen(kw_only=True)
class CurveFamily:
    """A curve metric with the references that belong on its axis."""

    name: str
    metric: str
    title: str
    caption: str
    references: tuple[Reference, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class DrawnCurve:
    """A curve with its variant (``base``: without the seed) and the stage in which it was measured."""

    owner: str
    base: str
    style: LineStyle
    stage: str
    curve: MetricCurve


def curve_figures(comparison: Comparison) -> list[ReportFigure]:
    """One figure for every curve metric that has a curve, in the order of their ranks."""
    figures = (_family_figure(comparison, family) for family in _families(comparison))
    return [figure for figure in figures if figure is not None]


def _families(comparison: Comparison) -> list[CurveFamily]:
    """Curve metrics with the references that say that they belong on their axis."""
    infos: dict[str, MetricInfo] = {}
    for folder in comparison.all_folders():
        for name, metric in folder.stage.metrics.items():
            if metric.curve is not None:
                infos.setdefault(name, info_of(metric))
    ordered = sorted(infos, key=lambda name: infos[name].order)
    own = dict.fromkeys(infos[name].reference_of or name for name in ordered)
    families: dict[str, CurveFamily] = {}
    for curve in sorted(own, key=lambda name: infos.get(name, named_info(name)).order):
        info = infos.get(curve) or named_info(curve)
        name = info.figure or f"curve-{file_name(curve.removesuffix('_curve'))}"
        while name in families:
            name += "-more"
        references = [other for other in ordered if infos[other].reference_of == curve]
        families[name] = CurveFamily(
            name=name,
            metric=curve,
            title=info.label,
            caption=f"{info.meaning}." if info.meaning else "",
            references=tuple(
                Reference(metric=reference, label=infos[reference].label, dashes=dashes)
                for reference, dashes in zip(references, cycle(REFERENCE_DASHES), strict=False)
            ),
        )
    return list(families.values())


def _curves_of(comparison: Comparison, metric_name: str) -> Iterator[DrawnCurve]:
    for folder in comparison.all_folders():
        metric = folder.stage.metrics.get(metric_name)
        if metric is not None and metric.curve is not None:
            yield DrawnCurve(
                owner=folder.label,
                base=folder.base,
                style=folder.drawn,
                stage=folder.stage.name,
                curve=metric.curve,
            )


def _family_figure(comparison: Comparison, family: CurveFamily) -> ReportFigure | None:
    curves = list(_curves_of(comparison, family.metric))
    references = [(item, _distinct(list(_curves_of(comparison, item.metric)))) for item in family.references]
    everything = [*curves, *(drawn for _, reference_curves in references for drawn in reference_curves)]
    if not everything:
        return None
    limits = _narrow_limits(curves, everything)
    figure, panels = new_figure(6.0, 4.2) if limits is None else new_figure(8.2, 4.2, 1, 2, width_ratios=(5.3, 2))
    legend: list[LegendEntry] = []
    for axes in panels:
        legend = _draw_variants(axes, curves) + _draw_references(axes, references)
        axes.set_xlabel(_first_label([drawn.curve.x_label for drawn in everything]))
        axes.margins(x=0.02)
        if is_wide(np.concatenate([drawn.curve.x for drawn in everything])):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    panels[0].set_ylabel(_first_label([drawn.curve.y_label for drawn in everything]))
    if limits is not None:
        panels[0].set_ylim(*limits)
        panels[0].set_title("range of the variants", loc="left")
        panels[1].set_title("whole range", loc="left")
        panels[1].set_xlabel("")
    add_legend(figure, legend)
    shown = ", ".join(entry.label for entry in legend)
    return ReportFigure(
        name=family.name,
        title=family.title,
        caption=family.caption,
        alt=f"{family.title}: {shown}",
        figure=figure,
        legend=legend,
    )


def _narrow_limits(curves: Sequence[DrawnCurve], everything: Sequence[DrawnCurve]) -> tuple[float, float] | None:
    """The variants' own range of ordinates with a margin, where references would flatten it; None elsewhere."""
    own, whole = _range_of(curves), _range_of(everything)
    if own is None or whole is None or own[0] == own[1] or whole[1] - whole[0] <= FLATTENED * (own[1] - own[0]):
        return None
    margin = 0.05 * (own[1] - own[0])
    return own[0] - margin, own[1] + margin


def _range_of(curves: Sequence[DrawnCurve]) -> tuple[float, float] | None:
    ordinates = [drawn.curve.y[np.isfinite(drawn.curve.y)] for drawn in curves]
    known = np.concatenate(ordinates) if ordinates else np.array([])
    return (float(known.min()), float(known.max())) if len(known) else None


def _draw_variants(axes: Axes, curves: Sequence[DrawnCurve]) -> list[LegendEntry]:
    stages = list(dict.fromkeys(drawn.stage for drawn in curves))
    legend: dict[str, LegendEntry] = {}
    for drawn in curves:
        few_points = len(drawn.curve.x) <= 24
        marker = STAGE_MARKERS[stages.index(drawn.stage) % len(STAGE_MARKERS)] if few_points or len(stages) > 1 else ""
        every = 1 if few_points else max(1, len(drawn.curve.x) // 10)
        of_stage = "" if len(stages) == 1 else f": {drawn.stage}"
        _draw_curve(axes, drawn, f"{drawn.owner}{of_stage}", marker, every)
        label = f"{drawn.base}{of_stage}"
        legend.setdefault(label, LegendEntry(label=label, style=drawn.style, marker=marker))
    return list(legend.values())


def _draw_references(axes: Axes, references: Sequence[tuple[Reference, Sequence[DrawnCurve]]]) -> list[LegendEntry]:
    legend = []
    for reference, curves in references:
        for place, drawn in enumerate(curves):
            style = reference_style(place, reference.dashes)
            label = reference.label if len(curves) == 1 else f"{reference.label} ({drawn.owner}: {drawn.stage})"
            _draw_curve(axes, attrs.evolve(drawn, style=style), label, band=False)
            legend.append(LegendEntry(label=label, style=style))
    return legend


def _draw_curve(
    axes: Axes, drawn: DrawnCurve, label: str, marker: str = "", marker_every: int = 1, *, band: bool = True
) -> None:
    curve, style = drawn.curve, drawn.style
    axes.plot(
        curve.x,
        curve.y,
        label=plain_text(label),
        color=style.color,
        linestyle=style.matplotlib_dashes,
        linewidth=style.width,
        marker=marker,
        markersize=4,
        markevery=marker_every,
    )
    if band and curve.y_std is not None:
        spread = np.nan_to_num(curve.y_std)
        alpha = 0.04 if style.width == SEED_WIDTH else 0.12  # bands of several seeds lie on each other
        axes.fill_between(curve.x, curve.y - spread, curve.y + spread, color=style.color, alpha=alpha, linewidth=0)


def _distinct(curves: Sequence[DrawnCurve]) -> list[DrawnCurve]:
    """Curves without those that repeat an earlier one: all variants saw the same images."""
    distinct: list[DrawnCurve] = []
    for drawn in curves:
        if not any(_equal(drawn.curve, other.curve) for other in distinct):
            distinct.append(drawn)
    return distinct


def _equal(first: MetricCurve, second: MetricCurve) -> bool:
    if len(first.x) != len(second.x):
        return False
    return all(
        np.allclose(values, other_values, rtol=1e-4, atol=1e-6, equal_nan=True)
        for values, other_values in ((first.x, second.x), (first.y, second.y))
    )


def _first_label(labels: Sequence[str]) -> str:
    return plain_text(next((label for label in labels if label), ""))
