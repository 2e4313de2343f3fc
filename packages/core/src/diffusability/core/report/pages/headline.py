"""The few numbers to look at first, and how far the run has come."""

from collections.abc import Iterable, Sequence

import attrs

from diffusability.core.report.comparison import Comparison, VariantGroup
from diffusability.core.report.tables.metric_table import Column
from diffusability.core.specs.metric_info import Judged

#: What is shown first, in this order: quality of generated samples, then diffusability, then reconstruction.
_ORDER: tuple[Judged | None, ...] = ("samples", "latents", "reconstruction", None)


@attrs.frozen(kw_only=True, eq=False)
class KeyResult:
    """A column in short: its best value, whose it is, and what that means against the first variant.

    ``improves`` is None unless the best is better than the first variant by more than chance.
    """

    column: Column
    variant: VariantGroup
    value: str
    verdict: str
    improves: bool | None


def key_results(comparison: Comparison, columns: Sequence[Column], most: int = 6) -> list[KeyResult]:
    """The most telling ranked columns, at most that many; of a metric in several stages, the last stage's."""
    ranked = [column for column in columns if column.higher_is_better is not None]
    latest = {column.metric: column for column in ranked if _place_of_best(column) is not None}
    known = [column for judged in _ORDER for column in headline_columns(latest.values(), judged)]
    others = [column for column in latest.values() if column.info.headline is None]
    return [_key_result(comparison, column) for column in (known + others)[:most]]


def headline_columns(columns: Iterable[Column], judged: Judged | None) -> list[Column]:
    """The columns of key results that judge the same, the first to look at first."""
    ranked = [
        (column.info.headline, column)
        for column in columns
        if column.info.judges == judged and column.info.headline is not None
    ]
    return [column for _, column in sorted(ranked, key=lambda pair: pair[0])]


def _place_of_best(column: Column) -> int | None:
    known = [(value, -place) for place, value in enumerate(column.values) if value is not None]
    if not known:
        return None
    sign = 1 if column.higher_is_better else -1
    return -max((sign * value, place) for value, place in known)[1]


def _key_result(comparison: Comparison, column: Column) -> KeyResult:
    place = _place_of_best(column)
    assert place is not None, "key results are made of columns with a value"
    cell, baseline = column.cells[place], column.values[0]
    rivals = [value for value in column.values if value is not None]
    improves = None
    if len(rivals) < 2:
        verdict = "" if len(column.values) == 1 else "the only result yet"
    elif len(set(rivals)) == 1:
        verdict = "equal for all"
    elif place == 0:
        rest = [cell.difference for cell in column.cells[1:] if cell.difference is not None]
        unclear = any(change.significant is False for change in rest)
        verdict = "best, but not significantly" if unclear else "best; no variant improves on it"
    elif baseline is None:
        verdict = f"best of {len(rivals)}"
    else:
        verdict = f"{cell.delta}{_percent(baseline, column.values[place])} vs {_first(comparison)}"
        improves = cell.improves
        if cell.difference is not None and cell.difference.significant is False:
            verdict = f"{verdict}, not significant"
    return KeyResult(
        column=column, variant=comparison.groups[place], value=cell.text, verdict=verdict, improves=improves
    )


def _first(comparison: Comparison) -> str:
    return comparison.groups[0].label


def _percent(baseline: float, value: float | None) -> str:
    if value is None or baseline == 0 or value / baseline <= 0 or value / baseline > 10:
        return ""
    return f" ({100 * (value / baseline - 1):+.1f}%)".replace("-", "\u2212")


@attrs.frozen(kw_only=True)
class Progress:
    """How far the runs have come, counting stages that variants share once."""

    done: int
    failed: int
    total: int

    @property
    def state(self) -> str:
        """One of ``done``, ``failed`` and ``running``."""
        if self.failed:
            return "failed"
        return "done" if self.total and self.done == self.total else "running"

    def __str__(self) -> str:
        if self.total == 0:
            return "no stages yet"
        if self.state == "done":
            return f"finished, {self.total} stage{'s' if self.total > 1 else ''}"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"unfinished: {self.done} of {self.total} stages done{failed}"


def progress_of(comparison: Comparison) -> Progress:
    """Counts the distinct stages by status."""
    statuses = [folder.stage.status for folder in comparison.all_folders()]
    return Progress(done=statuses.count("done"), failed=statuses.count("failed"), total=len(statuses))
