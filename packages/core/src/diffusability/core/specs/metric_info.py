"""What an evaluator says of its metrics for those who read them. Free of torch."""

import math
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import attrs

#: What a metric judges: images that were generated, latents, or reconstructions.
Judged = Literal["samples", "latents", "reconstruction"]


@attrs.frozen(kw_only=True)
class MetricInfo:
    """What tables, figures, glossaries and scorecards say of a metric beside its numbers. Written with each result.

    Attributes:
        label: the name that readers see.
        meaning: one sentence for glossaries, without a full stop; of a curve, the caption of its figure.
        judges: whether it is of generated samples, of latents or of reconstructions; None where none of them fits.
        group: heading under which scorecards list it; metrics without one come last.
        rank: order within its group, the smallest first, and by its smallest rank of a group among groups. Figures of
            curves are in this order too. Metrics without a rank follow in the order of results.
        headline: place among the key results of its kind (``judges``), the smallest first; the verdict names the first
            of each kind. None: it is not a key result while there are others.
        figure: of a curve, the name of its figure's file; by default made from the metric's name.
        reference_of: of a curve, the metric on whose axis it is drawn as a reference.
    """

    label: str
    meaning: str = ""
    judges: Judged | None = None
    group: str = ""
    rank: float | None = None
    headline: float | None = None
    figure: str = ""
    reference_of: str = ""

    @property
    def order(self) -> float:
        """``rank`` as a key for sorting."""
        return math.inf if self.rank is None else self.rank

    def as_json(self) -> dict[str, Any]:
        """What ``results.json`` holds of it: all that is not the default."""
        return attrs.asdict(self, filter=lambda field, value: value != field.default)


def read_metric_info(raw: object) -> MetricInfo | None:
    """What ``as_json`` wrote; None where there is nothing, as in results that were written before. Unknown keys and
    values of another type, as of later versions, are left out.
    """
    if not isinstance(raw, Mapping) or not isinstance(raw.get("label"), str) or not raw["label"]:
        return None
    texts = {name: raw[name] for name in ("meaning", "group", "figure", "reference_of") if _is(raw.get(name), str)}
    numbers = {name: raw[name] for name in ("rank", "headline") if _is(raw.get(name), int | float)}
    judges = raw.get("judges") if raw.get("judges") in get_args(Judged) else None
    return MetricInfo(label=raw["label"], judges=cast("Judged | None", judges), **texts, **numbers)


def _is(value: object, wanted: Any) -> bool:
    return isinstance(value, wanted) and not isinstance(value, bool)
