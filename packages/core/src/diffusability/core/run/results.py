"""Metrics as ``results.json`` holds them."""

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from jaxtyping import Float

from diffusability.core.specs.metric_info import MetricInfo, read_metric_info


@attrs.frozen(kw_only=True, eq=False)
class MetricCurve:
    """A metric that is a function, in the order of ``x``. Points that are not finite are NaN.

    Attributes:
        x: abscissae.
        y: ordinates.
        y_std: spread around ``y``, or None.
        x_label: what ``x`` is.
        y_label: what ``y`` is.
    """

    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    y_std: Float[np.ndarray, " n"] | None
    x_label: str
    y_label: str


@attrs.frozen(kw_only=True, eq=False)
class Metric:
    """One metric of one stage. ``value`` and ``curve`` are both None when the number is not finite or missing.

    Attributes:
        name: stable name, such as ``psnr``.
        value: the number, finite.
        curve: the function.
        unit: such as ``dB``; empty for a pure number.
        higher_is_better: None when neither direction is better.
        num_samples: how many images it was computed from, or None when that is not known.
        spread: standard deviation of ``value`` over bootstrap samples or the like; None when that is not known.
        settings: what defines the number.
        absence: why there is no value, in a few words; empty when there is one.
        note: what a reader must know to judge the number; empty where there is nothing.
        info: what its evaluator says of it; None in results that were written without.
    """

    name: str
    value: float | None = None
    curve: MetricCurve | None = None
    unit: str = ""
    higher_is_better: bool | None = None
    num_samples: int | None = None
    spread: float | None = None
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    absence: str = ""
    note: str = ""
    info: MetricInfo | None = None


def finite(raw: object) -> float | None:
    """A finite number as a float; None for anything else, NaN and infinity among it."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    try:
        value = float(raw)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _array(raw: object) -> Float[np.ndarray, " n"]:
    items = raw if isinstance(raw, list) else []
    numbers = [finite(item) for item in items]
    return np.array([math.nan if value is None else value for value in numbers], dtype=np.float64)


def _curve(raw: Mapping[str, Any]) -> MetricCurve | None:
    x, y = _array(raw.get("x")), _array(raw.get("y"))
    if len(x) != len(y) or not np.isfinite(x * y).any():
        return None
    y_std = _array(raw.get("y_std"))
    order = np.argsort(x, kind="stable")
    return MetricCurve(
        x=x[order],
        y=y[order],
        y_std=y_std[order] if len(y_std) == len(y) else None,
        x_label=str(raw.get("x_label") or ""),
        y_label=str(raw.get("y_label") or ""),
    )


def _metric(name: str, raw: Mapping[str, Any]) -> Metric:
    direction, num_samples, settings = raw.get("higher_is_better"), raw.get("num_samples"), raw.get("spec")
    value, curve, absence = None, None, ""
    if isinstance(raw.get("curve"), Mapping):
        curve = _curve(raw["curve"])
        absence = "" if curve else "the curve has no finite point, or x and y differ in length"
    else:
        value = finite(raw.get("value"))
        absence = "" if value is not None else f"the value is {raw.get('value')!r}"
    return Metric(
        name=name,
        value=value,
        curve=curve,
        unit=str(raw.get("unit") or ""),
        higher_is_better=direction if isinstance(direction, bool) else None,
        num_samples=num_samples if isinstance(num_samples, int) else None,
        spread=finite(raw.get("spread")),
        settings=settings if isinstance(settings, Mapping) else {},
        absence=absence,
        note=str(raw.get("note") or ""),
        info=read_metric_info(raw.get("info")),
    )


def parse_metrics(raw: object, where: str, notes: list[str]) -> dict[str, Metric]:
    """The metrics of one stage, by name, from parsed JSON. What is malformed is left out and named in ``notes``."""
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        notes.append(f"{where}: expected an object of metrics, got {type(raw).__name__}")
        return {}
    metrics = {}
    for name, entry in raw.items():
        if isinstance(entry, Mapping):
            metrics[str(name)] = _metric(str(name), entry)
        else:
            notes.append(f"{where}: metric {name!r} is {entry!r}, expected an object")
    return metrics
