"""Figures of training: the loss and its terms by optimizer step, all variants on each axis."""

import re
from collections.abc import Callable, Sequence

import attrs
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from diffusability.core.report.comparison import Comparison, StageFolder
from diffusability.core.report.figures.report_figure import (
    LegendEntry,
    ReportFigure,
    add_legend,
    file_name,
    new_figure,
    plain_text,
)
from diffusability.core.run.metric_names import named_info
from diffusability.core.run.training_log import Series, is_wide, smooth

#: How training ran rather than what it reached: what is logged, and what it is called.
OPTIMISATION_KEYS = {
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "samples_per_s": "samples per second",
    "step_time_s": "seconds per step",
    "data_wait_s": "seconds waited for data",
    "memory_bytes": "memory (bytes)",
}
#: Gradient norms of groups of modules, where they are logged.
GROUP_NORM_PREFIX = "grad_norm/"
#: Counters, which say nothing as a curve.
COUNTERS = ("samples", "num_skipped", "num_unreadable", "epoch", "time", "seconds")
EVALUATION_PREFIX = "eval/"
#: Ends of the names of losses in a bin of diffusion time.
_TIME_BIN = re.compile(r"_t(\d\.\d+)-(\d\.\d+)$")
#: Points of a line that a reader can tell apart.
MOST_POINTS = 800


@attrs.frozen(kw_only=True)
class PanelGroup:
    """Logged numbers that share a figure. ``title`` has a place for the name of the stage.

    ``of_faint_lines``: what is added to the caption where values are also drawn as logged.
    ``one_scale``: all panels have the same range of values, so that they can be compared with each other.
    """

    name: str
    title: str
    caption: str
    wants: Callable[[str], bool]
    of_faint_lines: str = ""
    one_scale: bool = False


LOSSES = PanelGroup(
    name="training",
    title="Losses of {stage}",
    caption="Smoothed over 5% of the logged steps.",
    of_faint_lines="The faint lines are the values as logged.",
    wants=lambda key: (
        key not in (*OPTIMISATION_KEYS, *COUNTERS)
        and not key.startswith((EVALUATION_PREFIX, GROUP_NORM_PREFIX))
        and not _TIME_BIN.search(key)
    ),
)
LOSSES_BY_TIME = PanelGroup(
    name="loss-by-time",
    title="Loss of {stage} by time",
    caption=(
        "The denoising loss at times from data (0) to noise (1), one panel for each bin, all on one scale; smoothed as"
        " the losses are. What is hard to learn shows as a bin that stays high."
    ),
    wants=lambda key: _TIME_BIN.search(key) is not None,
    one_scale=True,
)
CONVERGENCE = PanelGroup(
    name="convergence",
    title="Convergence of {stage}",
    caption=(
        "Metrics against optimizer steps, all variants on one axis; of the weights that would have been saved at that"
        " step (the average, where there is one)."
    ),
    wants=lambda key: key.startswith(EVALUATION_PREFIX),
)
OPTIMISATION = PanelGroup(
    name="optimisation",
    title="Optimisation of {stage}",
    caption="",
    wants=lambda key: key in OPTIMISATION_KEYS or key.startswith(GROUP_NORM_PREFIX),
)


def training_figures(comparison: Comparison) -> list[ReportFigure]:
    """For every stage that trained: the loss and its terms, what was evaluated on the way, and the loss by time."""
    return _figures(comparison, (LOSSES, CONVERGENCE, LOSSES_BY_TIME))


def optimisation_figures(comparison: Comparison) -> list[ReportFigure]:
    """For every stage that trained: learning rate, gradient norm and speed."""
    return _figures(comparison, (OPTIMISATION,))


def _figures(comparison: Comparison, groups: Sequence[PanelGroup]) -> list[ReportFigure]:
    figures = []
    for stage in comparison.stage_names:
        folders = [folder for folder in comparison.folders(stage) if folder.stage.log]
        for group in groups:
            keys = [key for key in _keys(folders) if group.wants(key)]
            if keys:
                name = f"{group.name}-{file_name(stage)}"
                figures.append(_panels(folders, keys, name, group.title.format(stage=stage), group))
    return figures


def _keys(folders: Sequence[StageFolder]) -> list[str]:
    """Keys that have a finite value, the loss first, without terms that equal the loss in every variant."""
    logged = dict.fromkeys(
        key
        for folder in folders
        for key, series in folder.stage.log.items()
        if len(series.values) and np.isfinite(series.values).any()
    )
    keys = sorted(logged, key=lambda key: key != "loss")
    if "loss" not in logged:
        return keys
    return [key for key in keys if key == "loss" or not all(_repeats_loss(folder, key) for folder in folders)]


def _repeats_loss(folder: StageFolder, key: str) -> bool:
    log = folder.stage.log
    if key not in log:
        return True
    if "loss" not in log or len(log["loss"].values) != len(log[key].values):
        return False
    return bool(np.allclose(log["loss"].values, log[key].values, rtol=1e-5, atol=0, equal_nan=True))


def _panels(
    folders: Sequence[StageFolder], keys: Sequence[str], name: str, title: str, group: PanelGroup
) -> ReportFigure:
    columns = 3 if len(keys) in (3, 5, 6) else min(4, len(keys))
    rows = -(-len(keys) // columns)
    width, height = {1: (5.9, 3.2), 2: (9.6, 3.0), 3: (12.0, 2.9), 4: (12.0, 2.5)}[columns]
    figure, panels = new_figure(width, height * rows + 0.3, rows, columns)
    for axes, key in zip(panels, keys, strict=False):
        _draw_panel(axes, folders, key)
    if group.one_scale:
        _use_one_scale(panels[: len(keys)])
    for axes in panels[len(keys) :]:
        axes.set_visible(False)
    drawn = [folder for folder in folders if any(key in folder.stage.log for key in keys)]
    legend = list({folder.base: LegendEntry(label=folder.base, style=folder.style) for folder in drawn}.values())
    add_legend(figure, legend)
    shown = ", ".join(_key_label(key) for key in keys)
    faint = group.of_faint_lines if any(not folder.is_one_of_several_seeds for folder in drawn) else ""
    caption = " ".join(filter(None, (group.caption, faint)))
    return ReportFigure(name=name, title=title, caption=caption, alt=f"{title}: {shown}", figure=figure, legend=legend)


def _draw_panel(axes: Axes, folders: Sequence[StageFolder], key: str) -> None:
    series = [(folder, folder.stage.log[key]) for folder in folders if key in folder.stage.log]
    for folder, curve in series:
        smoothing = key != "lr" and len(curve.values) >= 20
        _draw_series(axes, curve, folder, smoothing)
    values = np.concatenate([curve.values for _, curve in series])
    if is_wide(values) and key != "lr":
        _use_log_axis(axes, values)
    axes.set_title(plain_text(_key_label(key)), loc="left", fontweight="bold" if key == "loss" else "normal")
    axes.set_xlabel("step")
    axes.margins(x=0.02)


def _use_one_scale(panels: Sequence[Axes]) -> None:
    limits = [axes.get_ylim() for axes in panels]
    scale = "log" if any(axes.get_yscale() == "log" for axes in panels) else "linear"
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    if scale == "log" and low <= 0:
        scale = "linear"
    for axes in panels:
        axes.set_yscale(scale)
        axes.set_ylim(low, high)


def _use_log_axis(axes: Axes, values: Float[np.ndarray, " n"]) -> None:
    decades = np.log10(np.nanmax(values) / np.nanmin(values))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1, 3) if decades < 3.5 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_series(axes: Axes, series: Series, folder: StageFolder, smoothing: bool) -> None:
    style = folder.drawn
    smoothed = smooth(series.values, 2 * (len(series.values) // 40) + 3) if smoothing else series.values
    if smoothing and not folder.is_one_of_several_seeds:
        raw = _thin(series)
        axes.plot(raw.steps, raw.values, color=style.color, alpha=0.22, linewidth=0.8)
    line = _thin(Series(steps=series.steps, values=smoothed))
    axes.plot(
        line.steps,
        line.values,
        label=plain_text(folder.label),
        color=style.color,
        linestyle=style.matplotlib_dashes,
        linewidth=style.width * 0.85,
        marker="o" if len(series.values) < 20 else "",
        markersize=3.5,
    )


def _thin(series: Series) -> Series:
    stride = max(1, -(-len(series.values) // MOST_POINTS))
    return Series(steps=series.steps[::stride], values=series.values[::stride])


def _key_label(key: str) -> str:
    time_bin = _TIME_BIN.search(key)
    if time_bin is not None:
        return f"{key[: time_bin.start()]}, t in [{time_bin[1]}, {time_bin[2]})"
    if key.startswith(EVALUATION_PREFIX):
        return named_info(key.removeprefix(EVALUATION_PREFIX)).label
    known = named_info(key)  # some objectives log metrics under the names that evaluators give them
    return known.label if known.meaning else OPTIMISATION_KEYS.get(key, key)
