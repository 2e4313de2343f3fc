"""Whether numbers of different variants were measured in the same way."""

import json
from collections.abc import Sequence

from diffusability.core.run.results import Metric

#: The one setting that a number does not depend on: what its spread is over.
SPREAD = "spread_over"


def disagreement(metrics: Sequence[Metric]) -> str:
    """What differs between the ways in which variants were measured; empty when nothing does."""
    parts = []
    for noun, seen in (
        ("numbers of samples", {f"{metric.num_samples}" for metric in metrics}),
        ("units", {metric.unit or "none" for metric in metrics}),
        ("directions", {f"{metric.higher_is_better}" for metric in metrics}),
    ):
        if len(seen) > 1:
            parts.append(f"{noun} ({', '.join(sorted(seen))})")
    settings = [{key: value for key, value in metric.settings.items() if key != SPREAD} for metric in metrics]
    if len({json.dumps(spec, sort_keys=True, default=str) for spec in settings}) > 1:
        keys = sorted({str(key) for spec in settings for key in spec})
        differing = [key for key in keys if len({repr(spec.get(key)) for spec in settings}) > 1]
        parts.append(f"settings ({', '.join(differing)})")
    return f"variants differ in {' and '.join(parts)}" if parts else ""
