"""The table of variants by scalar metrics: which value is the best, and how far each is from the baseline.

A variant is one row, however many seeds it has; its value is the mean over them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from diffusability.core.report.comparison import Comparison
from diffusability.core.report.tables.differences import Difference
from diffusability.core.report.tables.measured_column import MeasuredColumn, measured_column
from diffusability.core.report.tables.number_format import (
    ABSENT,
    format_delta,
    format_interval,
    format_number,
)
from diffusability.core.run.results import Metric
from diffusability.core.specs.metric_info import MetricInfo

#: Metrics of the images themselves, next to the metric of the latents that has the rest of the name.
REFERENCE_PREFIX = "rgb_"


@attrs.frozen(kw_only=True, eq=False)
class Cell:
    """One value as it is shown.

    Attributes:
        text: the number, or a dash.
        best: whether it is the best of its column.
        delta: difference from the first variant; empty where there is none to show.
        interval: the 95% interval of that difference in brackets; empty where none is known.
        difference: the difference itself, or None.
        improves: whether it is for the better; None where it is not significant, where there is none, or no direction.
        leads: whether ``best`` is more than chance: the baseline is best and all others are significantly worse, or
            this is best and significantly better than the baseline.
        title: what a reader may want to know besides.
        spread: how uncertain the number is, with its sign: over seeds where there are several, or else as measured
            within the run; empty where that is not known.
    """

    text: str = ABSENT
    best: bool = False
    delta: str = ""
    interval: str = ""
    difference: Difference | None = None
    improves: bool | None = None
    title: str = ""
    spread: str = ""
    leads: bool = False


@attrs.frozen(kw_only=True, eq=False)
class Column:
    """A metric of a stage over all variants, in their order.

    Attributes:
        stage: name of the stage.
        metric: stable name of the metric.
        info: what readers see of it.
        unit: unit, or empty.
        higher_is_better: None for a metric without a direction.
        num_samples: how many images, if all variants agree.
        warning: why the values may not be comparable, or empty.
        values: the numbers; None where a variant has none.
        cells: the numbers as they are shown.
        reference: the same quantity of the images themselves, or empty.
    """

    stage: str
    metric: str
    info: MetricInfo
    unit: str
    higher_is_better: bool | None
    num_samples: int | None
    warning: str
    values: Sequence[float | None]
    cells: Sequence[Cell]
    reference: str = ""

    @property
    def label(self) -> str:
        """The name to show."""
        return self.info.label

    @property
    def meaning(self) -> str:
        """One sentence of explanation, or empty."""
        return self.info.meaning

    @property
    def arrow(self) -> str:
        """The direction that is better: ↑, ↓, or nothing."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


def metric_columns(comparison: Comparison) -> list[Column]:
    """The columns of the table, grouped by stage; curves are not among them."""
    columns = []
    for stage_name in comparison.stage_names:
        by_variant = [
            variant.stages[stage_name].metrics for variant in comparison.variants if stage_name in variant.stages
        ]
        names = dict.fromkeys(
            name for metrics in by_variant for name, metric in metrics.items() if not _is_curve(metric)
        )
        references = {
            name: reference for name in names if (reference := _reference(name, names, by_variant)) is not None
        }
        columns += [
            _column(comparison, stage_name, name, references.get(name))
            for name in names
            if name.removeprefix(REFERENCE_PREFIX) not in references or not name.startswith(REFERENCE_PREFIX)
        ]
    return columns


def _reference(name: str, names: Iterable[str], by_variant: Sequence[Mapping[str, Metric]]) -> float | None:
    """What a metric is for the images themselves, if ``rgb_<name>`` says so and is equal for all variants."""
    if REFERENCE_PREFIX + name not in names:
        return None
    metrics = [metrics[REFERENCE_PREFIX + name] for metrics in by_variant if REFERENCE_PREFIX + name in metrics]
    values = [metric.value for metric in metrics if metric.value is not None]
    agree = len(values) == len(metrics) and all(math.isclose(value, values[0], rel_tol=1e-4) for value in values)
    return values[0] if agree else None


def _is_curve(metric: Metric) -> bool:
    return metric.curve is not None or metric.name.endswith("_curve")


def _column(comparison: Comparison, stage_name: str, name: str, reference: float | None) -> Column:
    measured = measured_column(comparison.groups, stage_name, name)
    assert measured.first is not None, "its name is among those of the results"
    leading = _leading(measured.differences, measured.higher_is_better)
    counts = {metric.num_samples for metric in measured.metrics}
    return Column(
        stage=stage_name,
        metric=measured.first.name,
        info=measured.info,
        unit=measured.first.unit,
        higher_is_better=measured.higher_is_better,
        num_samples=counts.pop() if len(counts) == 1 else None,
        warning=measured.warning,
        values=measured.means,
        cells=[
            _cell(measured, place, comparison.groups[0].label, leads=place in measured.best and leads)
            for place, leads in enumerate(leading)
        ],
        reference="" if reference is None else format_number(reference, measured.decimals),
    )


def _leading(differences: Sequence[Difference | None], direction: bool | None) -> list[bool]:
    """Whether each, if it is the best, is so by more than chance. The first is the baseline."""
    verdicts = [None if change is None else change.improves(direction) for change in differences]
    return [all(verdict is False for verdict in verdicts[1:]), *(verdict is True for verdict in verdicts[1:])]


def _cell(column: MeasuredColumn, place: int, baseline_label: str, *, leads: bool) -> Cell:
    seeds, estimate, away = column.seeds[place], column.estimates[place], column.differences[place]
    if not seeds:
        return Cell(title="no result yet")
    if estimate is None:
        return Cell(title=seeds[0].metric.absence)
    metric = next(value.metric for value in seeds if value.metric.value is not None)
    details = [f"{metric.name} = {estimate.mean!r}{' ' + metric.unit if metric.unit else ''}"]
    if metric.num_samples is not None:
        details.append(f"of {metric.num_samples:,} samples")
    spread = estimate.std if estimate.num_seeds > 1 else metric.spread
    shown = "" if spread is None else f"± {spread:.2g}"
    if shown:
        details.append(f"{shown} {_origin(metric, estimate.num_seeds)}")
    delta, interval, improves = "", "", None
    if away is not None:
        delta = format_delta(away.mean, column.decimals)
        interval = format_interval(away.low, away.high, column.decimals)
        improves = away.improves(column.higher_is_better)
        verdict = {True: "better than", False: "worse than", None: "against"}[improves]
        details.append(f"{delta} {interval} {verdict} {baseline_label}".replace("  ", " "))
        details += [f"{away.method}" if away.significant else f"not significant ({away.method})"] if away.method else []
    if metric.note:
        details.append(metric.note)
    return Cell(
        text=format_number(estimate.mean, column.decimals),
        best=place in column.best,
        delta=delta,
        interval=interval,
        difference=away,
        improves=improves,
        title=", ".join(details),
        spread=shown,
        leads=leads,
    )


def _origin(metric: Metric, num_seeds: int) -> str:
    """What a spread is over."""
    return (
        f"over {num_seeds} seeds"
        if num_seeds > 1
        else f"over {metric.settings.get('spread_over', 'bootstrap samples')}"
    )
