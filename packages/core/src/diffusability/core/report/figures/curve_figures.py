"""Figures of metrics that are curves: one axis per metric, all variants on it, RGB as the reference."""

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from diffusability.core.report.comparison import Comparison
from diffusability.core.report.figures.line_styles import (
    RGB_DASHES,
    RGB_POOLED_DASHES,
    SEED_WIDTH,
    STAGE_MARKERS,
    LineStyle,
    reference_style,
)
from diffusability.core.report.figures.report_figure import (
    ReportFigure,
    add_legend,
    file_name,
    label_of,
    legend_line,
    new_figure,
    plain_text,
)
from diffusability.core.report.tables.metric_names import metric_label
from diffusability.core.run.results import MetricCurve
from diffusability.core.run.training_log import is_wide


@attrs.frozen(kw_only=True)
class Reference:
    """A curve of the images themselves, drawn on the axis of a curve of the latents."""

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


KNOWN_FAMILIES = (
    CurveFamily(
        name="spectrum",
        metric="latent_spectrum_curve",
        title="Spectrum of the latents",
        caption=(
            "Amplitude of block DCT coefficients from low to high frequency, relative to DC, mean over channels; the"
            " band is one standard deviation. Latents above the dashed RGB line carry more high-frequency energy than"
            " images do; those nearer to it tend to be easier to diffuse."
        ),
        references=(
            Reference(metric="rgb_pooled_spectrum_curve", label="RGB, pooled to latent size", dashes=RGB_POOLED_DASHES),
            Reference(metric="rgb_spectrum_curve", label="RGB, own size", dashes=RGB_DASHES),
        ),
    ),
    CurveFamily(
        name="chop-off",
        metric="chop_off_curve",
        title="High-frequency chop-off",
        caption=(
            "Quality of images decoded from latents whose high frequencies were cut off. The higher a curve stays, the"
            " less the decoder leans on high frequencies. The dashed line chops the images themselves."
        ),
        references=(Reference(metric="rgb_chop_off_curve", label="RGB", dashes=RGB_POOLED_DASHES),),
    ),
    CurveFamily(
        name="radial-spectrum",
        metric="latent_radial_spectrum_curve",
        title="Radial spectrum of whole latents",
        caption=(
            "Amplitude of whole-map DCT coefficients against radial frequency, relative to DC, mean over channels."
            " 0.5 is the finest frequency of one axis; a flat tail is what white noise has."
        ),
        references=(
            Reference(
                metric="rgb_pooled_radial_spectrum_curve", label="RGB, pooled to latent size", dashes=RGB_POOLED_DASHES
            ),
            Reference(metric="rgb_radial_spectrum_curve", label="RGB, own size", dashes=RGB_DASHES),
        ),
    ),
    CurveFamily(
        name="temporal-spectrum",
        metric="temporal_spectrum_curve",
        title="Spectrum of the latents along time",
        caption="Amplitude of DCT coefficients along the frames, relative to temporal DC, mean over all places.",
        references=(Reference(metric="rgb_temporal_spectrum_curve", label="RGB", dashes=RGB_POOLED_DASHES),),
    ),
    CurveFamily(
        name="velocity-variance",
        metric="viv_curve",
        title="What no denoiser can predict",
        caption=(
            "Variance of the velocity given the noisy latents, per dimension, of latents modelled as a Gaussian. Lower"
            " is easier; its mean over time is VIV."
        ),
    ),
)


@attrs.frozen(kw_only=True, eq=False)
class DrawnCurve:
    """A curve, whose it is (``base``: whatever the seed) and in which stage it was measured."""

    owner: str
    base: str
    style: LineStyle
    stage: str
    curve: MetricCurve


def curve_figures(comparison: Comparison) -> list[ReportFigure]:
    """One figure for every curve metric that has a curve, the spectra and the chop-off curves first."""
    names = dict.fromkeys(
        name
        for folder in comparison.all_folders()
        for name, metric in folder.stage.metrics.items()
        if metric.curve is not None
    )
    known = {family.metric for family in KNOWN_FAMILIES}
    known |= {reference.metric for family in KNOWN_FAMILIES for reference in family.references}
    others = _unknown_families([name for name in names if name not in known])
    figures = (_family_figure(comparison, family) for family in (*KNOWN_FAMILIES, *others))
    return [figure for figure in figures if figure is not None]


def _unknown_families(metrics: Sequence[str]) -> list[CurveFamily]:
    families: dict[str, CurveFamily] = {}
    for metric in metrics:
        name = f"curve-{file_name(metric.removesuffix('_curve'))}"
        while name in families:
            name += "-more"
        families[name] = CurveFamily(name=name, metric=metric, title=metric_label(metric), caption="")
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
    everything = [*curves, *(drawn for _, found in references for drawn in found)]
    if not everything:
        return None
    figure, (axes,) = new_figure(6.0, 4.2)
    legend = _draw_variants(axes, curves) + _draw_references(axes, references)
    axes.set_xlabel(_first_label([drawn.curve.x_label for drawn in everything]))
    axes.set_ylabel(_first_label([drawn.curve.y_label for drawn in everything]))
    axes.margins(x=0.02)
    if is_wide(np.concatenate([drawn.curve.x for drawn in everything])):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    add_legend(figure, legend)
    shown = ", ".join(map(label_of, legend))
    return ReportFigure(
        name=family.name, title=family.title, caption=family.caption, alt=f"{family.title}: {shown}", figure=figure
    )


def _draw_variants(axes: Axes, curves: Sequence[DrawnCurve]) -> list[Line2D]:
    stages = list(dict.fromkeys(drawn.stage for drawn in curves))
    legend: dict[str, Line2D] = {}
    for drawn in curves:
        few_points = len(drawn.curve.x) <= 24
        marker = STAGE_MARKERS[stages.index(drawn.stage) % len(STAGE_MARKERS)] if few_points or len(stages) > 1 else ""
        every = 1 if few_points else max(1, len(drawn.curve.x) // 10)
        label = drawn.base if len(stages) == 1 else f"{drawn.base}: {drawn.stage}"
        _draw_curve(axes, drawn, marker, every)
        legend.setdefault(label, legend_line(label, drawn.style, marker))
    return list(legend.values())


def _draw_references(axes: Axes, references: Sequence[tuple[Reference, Sequence[DrawnCurve]]]) -> list[Line2D]:
    legend = []
    for reference, found in references:
        for place, drawn in enumerate(found):
            style = reference_style(place, reference.dashes)
            label = reference.label if len(found) == 1 else f"{reference.label} ({drawn.owner}: {drawn.stage})"
            _draw_curve(axes, attrs.evolve(drawn, style=style), band=False)
            legend.append(legend_line(label, style))
    return legend


def _draw_curve(axes: Axes, drawn: DrawnCurve, marker: str = "", marker_every: int = 1, *, band: bool = True) -> None:
    curve, style = drawn.curve, drawn.style
    axes.plot(
        curve.x,
        curve.y,
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
        np.allclose(one, other, rtol=1e-4, atol=1e-6, equal_nan=True)
        for one, other in ((first.x, second.x), (first.y, second.y))
    )


def _first_label(labels: Sequence[str]) -> str:
    return plain_text(next((label for label in labels if label), ""))
