"""Training curves as ``metrics.jsonl`` holds them."""

from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
from jaxtyping import Float

from diffusability.core.reading import parsed_json
from diffusability.core.run.results import finite

#: What spans more than this factor is drawn on a logarithmic axis.
LOG_AXIS_RATIO = 10.0


@attrs.frozen(kw_only=True, eq=False)
class Series:
    """A logged number over optimizer steps, in the order of steps. Values that were not finite are NaN."""

    steps: Float[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]


def read_training_log(path: Path, notes: list[str]) -> dict[str, Series]:
    """Every number of a ``metrics.jsonl``, by key and in order of appearance.

    Of a step that was logged again after a resume, the last line counts. Lines that cannot be read (the last one of a
    killed process may be cut short) are left out and counted in ``notes``.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    rows: dict[float, dict[str, object]] = {}
    unreadable = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            row = parsed_json(line)
        except ValueError:
            row = None
        step = finite(row.get("step")) if isinstance(row, dict) else None
        if step is None:
            unreadable += 1
        else:
            rows.setdefault(step, {}).update(row)
    if unreadable:
        notes.append(f"{path.parent.name}/{path.name}: {unreadable} of {len(lines)} lines cannot be read")
    return _series_of(rows)


def _series_of(rows: Mapping[float, Mapping[str, object]]) -> dict[str, Series]:
    columns: dict[str, list[tuple[float, float]]] = {}
    for step in sorted(rows):
        for key, raw in rows[step].items():
            if key == "step" or isinstance(raw, bool) or not isinstance(raw, int | float | None):
                continue
            value = finite(raw)
            columns.setdefault(key, []).append((step, np.nan if value is None else value))
    return {
        key: Series(steps=np.array([step for step, _ in points]), values=np.array([value for _, value in points]))
        for key, points in columns.items()
    }


def smooth(values: Float[np.ndarray, " n"], window: int) -> Float[np.ndarray, " n"]:
    """Centred moving average over an odd number of points.

    At the start the window shrinks on both sides, so that a steep fall is kept; at the end it only loses the points
    that do not exist. NaN are left out of the averages and stay NaN.
    """
    known = np.isfinite(values)
    if not known.any():
        return values
    middle = np.median(values[known])  # what is averaged is small, so that sums lose no digits
    totals = np.concatenate([[0.0], np.cumsum(np.where(known, values - middle, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    places = np.arange(len(values))
    reach = np.minimum(window // 2, places)
    low, high = places - reach, np.minimum(places + reach + 1, len(values))
    mean = middle + (totals[high] - totals[low]) / np.maximum(counts[high] - counts[low], 1)
    return np.where(known, mean, np.nan)


def is_wide(values: Float[np.ndarray, " n"]) -> bool:
    """Whether values, all positive, span so much that a logarithmic axis shows them better."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or finite.min() <= 0:
        return False
    low, high = np.percentile(finite, [1, 99])
    return bool(high / low > LOG_AXIS_RATIO)
