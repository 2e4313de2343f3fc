"""How well a metric of autoencoders predicts one of the images generated from their latents, over variants."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from diffusability.core.errors import SpecError, nearest
from diffusability.core.report.comparison import Comparison, compare
from diffusability.core.report.figures.report_figure import ReportFigure, new_figure, plain_text
from diffusability.core.report.rank_correlation import RankCorrelation, rank_correlation
from diffusability.core.report.tables.seed_values import over_seeds, seed_values
from diffusability.core.run.folder_reader import read_run
from diffusability.core.run.metric_names import info_of
from diffusability.core.run.results import Metric


@attrs.frozen(kw_only=True, eq=False)
class Predictor:
    """A metric, its values beside the target's, and how well their ranks agree.

    Attributes:
        metric: stable name.
        label: the name that readers see.
        target_label: that of the target.
        expected: the sign that the correlation has if the metric's "better" goes with the target's; None when either
            has no direction.
        pairs: variant, value of the metric, value of the target.
        correlation: Spearman's, of the values as they are.
    """

    metric: str
    label: str
    target_label: str
    expected: int | None
    pairs: Sequence[tuple[str, float, float]]
    correlation: RankCorrelation


def correlate(run_directories: Sequence[Path], target: str) -> list[Predictor]:
    """Every scalar metric of other stages against the target, the strongest first.

    Raises:
        SpecError: a folder is not a run, or no variant has the target.
        DataError: fewer than four variants have both.
    """
    comparison = compare([read_run(directory) for directory in run_directories])
    values, metrics, stages = _values(comparison)
    if target not in values:
        known = sorted(values)
        raise SpecError(f"no variant has the metric {target!r}; {nearest(target, known)}there are: {', '.join(known)}")
    predictors = []
    for metric, by_variant in values.items():
        shared = [variant for variant in by_variant if variant in values[target]]
        if stages[metric] == stages[target] or len(shared) < len(values[target]):
            continue  # measured on the same samples, or missing for some variants
        pairs = [(variant, by_variant[variant], values[target][variant]) for variant in shared]
        if len({value for _, value, _ in pairs}) == 1:
            continue  # equal for all, such as what is measured on the images themselves
        first, second = (np.array([pair[place] for pair in pairs]) for place in (1, 2))
        better, target_better = metrics[metric].higher_is_better, metrics[target].higher_is_better
        expected = None if better is None or target_better is None else (1 if better == target_better else -1)
        predictors.append(
            Predictor(
                metric=metric,
                label=info_of(metrics[metric]).label,
                target_label=info_of(metrics[target]).label,
                expected=expected,
                pairs=pairs,
                correlation=rank_correlation(first, second),
            )
        )
    return sorted(predictors, key=lambda predictor: -abs(predictor.correlation.value))


def _values(comparison: Comparison) -> tuple[dict[str, dict[str, float]], dict[str, Metric], dict[str, str]]:
    """Scalar metrics by name and variant, one result of each, and the stages that they come from.

    Of a metric in several stages, the last stage's; of a variant with several seeds, the mean over them.
    """
    values: dict[str, dict[str, float]] = {}
    metrics: dict[str, Metric] = {}
    stages: dict[str, str] = {}
    for group in comparison.groups:
        for stage_name in comparison.stage_names:
            names = dict.fromkeys(
                name
                for member in group.members
                if stage_name in member.stages
                for name in member.stages[stage_name].metrics
            )
            for name in names:
                measured = seed_values(group, stage_name, name)
                estimate = over_seeds(measured)
                if estimate is not None:
                    values.setdefault(name, {})[group.label] = estimate.mean
                    metrics[name] = measured[-1].metric
                    stages[name] = stage_name
    return values, metrics, stages


def correlation_markdown(predictors: Sequence[Predictor]) -> str:
    """The table in Markdown, of at least one predictor."""
    lines = [
        f"| predictor of {predictors[0].target_label} | Spearman | 95% interval | expected sign | variants |",
        "| --- | ---: | --- | :---: | ---: |",
    ]
    for predictor in predictors:
        sign = {1: "+", -1: "-", None: ""}[predictor.expected]
        correlation = predictor.correlation
        lines.append(
            f"| {predictor.label} (`{predictor.metric}`) | {correlation.value:+.2f} |"
            f" {correlation.low:+.2f} to {correlation.high:+.2f} | {sign} | {correlation.num_pairs} |"
        )
    return "\n".join(lines) + "\n"


def correlation_json(predictors: Sequence[Predictor], target: str) -> dict[str, Any]:
    """The table as plain data."""
    return {
        "target": target,
        "predictors": [
            {
                **attrs.asdict(predictor.correlation),
                "metric": predictor.metric,
                "expected_sign": predictor.expected,
                "pairs": predictor.pairs,
            }
            for predictor in predictors
        ],
    }


def correlation_figure(predictors: Sequence[Predictor], most: int = 12) -> ReportFigure:
    """Scatter plots of the strongest predictors against the target, a point a variant."""
    shown = predictors[:most]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure, grid = new_figure(2.9 * columns, 2.6 * rows + 0.2, rows, columns)
    for place, (axes, predictor) in enumerate(zip(grid, shown, strict=False)):
        axes.plot(
            [x for _, x, _ in predictor.pairs], [y for _, _, y in predictor.pairs], "o", color="#1f5fa8", markersize=5
        )
        low, high = predictor.correlation.low, predictor.correlation.high
        axes.set_title(f"rho = {predictor.correlation.value:+.2f}  [{low:+.2f}, {high:+.2f}]")
        axes.set_xlabel(plain_text(predictor.label))
        if place % columns == 0:
            axes.set_ylabel(plain_text(predictor.target_label))
    for axes in grid[len(shown) :]:
        axes.remove()
    return ReportFigure(
        name="correlation",
        title=f"Predictors of {shown[0].target_label}",
        caption="A point a variant; Spearman's rank correlation with its 95% bootstrap interval over variants.",
        alt=f"Scatter plots of {', '.join(predictor.label for predictor in shown)} against {shown[0].target_label}",
        figure=figure,
    )


def write_correlation(run_directories: Sequence[Path], target: str, output: Path | None = None) -> list[Predictor]:
    """Writes ``correlation.md``, ``correlation.json`` and ``figures/correlation.*`` into the first run's folder.

    Raises:
        SpecError: no folder was given, one is not a run, or no variant has the target.
        DataError: fewer than four variants have both.
    """
    if not run_directories:
        raise SpecError("no run folder was given; expected one or more, such as 'runs/predictors'")
    predictors = correlate(run_directories, target)
    if not predictors:
        raise SpecError(f"no other metric was measured on all variants that have {target!r}")
    folder = output if output is not None else run_directories[0]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "correlation.md").write_text(correlation_markdown(predictors), encoding="utf-8")
    content = json.dumps(correlation_json(predictors, target), indent=2, allow_nan=False)
    (folder / "correlation.json").write_text(content + "\n", encoding="utf-8")
    correlation_figure(predictors).save(folder / "figures")
    return predictors
