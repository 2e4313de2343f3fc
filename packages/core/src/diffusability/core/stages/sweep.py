"""Samples evaluated at several values of one field of their sampler: a curve of each metric, and its best value."""

from collections.abc import Mapping, Sequence

import attrs

from diffusability.core.contracts.evaluator import Curve, EvalResult
from diffusability.core.specs.metric_info import MetricInfo
from diffusability.core.specs.stages import SweepSpec

#: By the swept field: what names of metrics say, and what readers see.
_WORDS = {"guidance_scale": ("guidance", "guidance scale"), "time_shift": ("shift", "time shift")}


def swept_results(sweep: SweepSpec, points: Mapping[float, Sequence[EvalResult]]) -> list[EvalResult]:
    """A curve and, where a direction is better, the best value of every number that all points have.

    ``fid`` swept over ``guidance_scale`` gives ``fid_guidance_curve`` and ``fid_best_guidance``. The best of several
    values is chosen on the samples that it is measured on, so it is a little optimistic; its note says of how many.
    """
    numbers = {value: {result.metric: result for result in results} for value, results in points.items()}
    first = numbers[sweep.values[0]]
    results = []
    for metric in first:
        along = [numbers[value].get(metric) for value in sweep.values]
        complete = [result for result in along if result is not None and result.value is not None]
        if len(complete) == len(along):
            results += _of_metric(sweep, complete)
    return results


def _of_metric(sweep: SweepSpec, along: Sequence[EvalResult]) -> list[EvalResult]:
    short, noun = _WORDS[sweep.field]
    first = along[0]
    info = first.info or MetricInfo(label=first.metric)
    values = [float(result.value) for result in along if result.value is not None]
    spreads = [result.spread for result in along if result.spread is not None]
    curve = attrs.evolve(
        first,
        metric=f"{first.metric}_{short}_curve",
        value=None,
        spread=None,
        values=None,
        note="",
        curve=Curve(
            x=sweep.values,
            y=values,
            y_std=spreads if len(spreads) == len(values) else None,
            x_label=noun,
            y_label=info.label,
        ),
        spec={**first.spec, "sampler": _others(first.spec.get("sampler"), sweep.field)},
        info=MetricInfo(
            label=f"{info.label} against {noun}",
            meaning=info.meaning,
            rank=info.rank,
            figure=f"{first.metric}-{short}",
        ),
    )
    if first.higher_is_better is None:
        return [curve]
    pick = max if first.higher_is_better else min
    place = values.index(pick(values))
    at = sweep.values[place]
    note = f"best of {len(values)} values of {sweep.field}, at {at:g}, chosen on the samples that it is measured on"
    best = attrs.evolve(
        along[place],
        metric=f"{first.metric}_best_{short}",
        spec={**along[place].spec, f"best_{sweep.field}": at, "swept": list(sweep.values)},
        note="; ".join(filter(None, (along[place].note, note))),
        info=attrs.evolve(
            info,
            label=f"{info.label}, best {short}",
            meaning=f"{info.meaning}, at the best {noun}" if info.meaning else "",
            rank=info.order + 0.05,
            headline=None,
        ),
    )
    return [curve, best]


def _others(sampler: object, field: str) -> object:
    """A sampler's settings but the one that is swept."""
    return (
        {name: value for name, value in sampler.items() if name != field} if isinstance(sampler, Mapping) else sampler
    )
