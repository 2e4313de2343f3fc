"""What the report says first: one sentence for each variant, from the intervals of its differences."""

from collections.abc import Mapping, Sequence

from diffusability.core.report.comparison import Comparison
from diffusability.core.report.pages.headline import headline_columns
from diffusability.core.report.tables.differences import Difference
from diffusability.core.report.tables.metric_table import Column
from diffusability.core.report.tables.number_format import MINUS, format_delta, format_interval, readable_unit
from diffusability.core.specs.metric_info import Judged

#: Decimals of a difference that is written out in a sentence.
_DECIMALS = 2


def verdicts(comparison: Comparison, columns: Sequence[Column]) -> list[str]:
    """A sentence for each variant but the baseline; none where nothing can be compared.

    Each names the first metric of latents, of reconstructions and of samples that was measured, in the order of the
    key results; of a metric in several stages, the last stage's.
    """
    latest = {column.metric: column for column in columns if column.higher_is_better is not None}
    sentences = []
    for place, variant in enumerate(comparison.groups):
        if place == 0:
            continue
        latents = _first("latents", latest, place)
        reconstruction = _first("reconstruction", latest, place)
        samples = _first("samples", latest, place)
        parts = []
        if latents is not None:
            parts.append(_verdict_on_latents(latents, place))
        if reconstruction is not None:
            parts.append(f"at {_change(reconstruction, place)} {reconstruction.label}")
        text = " ".join(parts)
        if samples is not None:
            text = "; ".join(filter(None, (text, f"samples: {_verdict_on_samples(samples, place)}")))
        if text:
            sentences.append(f"{variant.label} {text}." if latents is not None else f"{variant.label}: {text}.")
    return sentences


def how_compared(columns: Sequence[Column]) -> str:
    """How the intervals of all differences were found, those of most metrics first; empty where there are none."""
    methods = [cell.difference.method for column in columns for cell in column.cells if cell.difference is not None]
    distinct = sorted({method for method in methods if method}, key=lambda method: -methods.count(method))
    return "; ".join(distinct)


def _first(judged: Judged, columns: Mapping[str, Column], place: int) -> Column | None:
    measured = [column for column in columns.values() if column.cells[place].difference is not None]
    return next(iter(headline_columns(measured, judged)), None)


def _difference(column: Column, place: int) -> Difference:
    difference = column.cells[place].difference
    assert difference is not None, "columns are chosen by their difference"
    return difference


def _verdict_on_latents(column: Column, place: int) -> str:
    difference = _difference(column, place)
    if difference.significant is False:
        return f"shows no significant difference in {column.label} ({_relative(column, difference)})"
    verb = "raises" if difference.mean > 0 else "lowers"
    return f"{verb} {column.label} by {_relative(column, difference, unsigned=True)}{_doubt(difference)}"


def _verdict_on_samples(column: Column, place: int) -> str:
    difference = _difference(column, place)
    if difference.significant is False:
        return f"no significant difference in {column.label} ({_change(column, place, doubt=False)})"
    quality = {True: "better", False: "worse", None: "changed"}[(difference.mean > 0) == column.higher_is_better]
    return f"{column.label} {quality} by {_change(column, place)}"


def _change(column: Column, place: int, doubt: bool = True) -> str:
    """A signed difference with its unit and interval, and in words what keeps it from being significant."""
    difference = _difference(column, place)
    unit = f" {readable_unit(column.unit)}" if column.unit else ""
    scale = max(abs(end) for end in (difference.mean, difference.low or 0.0, difference.high or 0.0))
    decimals = _DECIMALS if scale >= 10**-_DECIMALS else None
    interval = format_interval(difference.low, difference.high, decimals)
    text = f"{format_delta(difference.mean, decimals)}{unit}{' ' + interval if interval else ''}"
    return text + (_doubt(difference) if doubt else "")


def _doubt(difference: Difference) -> str:
    if difference.significant is None:
        return " (no interval is known)"
    return "" if difference.significant else " (not significant)"


def _relative(column: Column, difference: Difference, unsigned: bool = False) -> str:
    """In per cent of the baseline, or as it is where that makes no sense."""
    baseline = column.values[0]
    if baseline is None or baseline <= 0:
        scale, unit, decimals = 1.0, f" {readable_unit(column.unit)}".rstrip(), _DECIMALS
    else:
        scale, unit, decimals = 100 / baseline, " %", 0
    sign = -1.0 if unsigned and difference.mean < 0 else 1.0
    mean = sign * scale * difference.mean
    ends = sorted(sign * scale * end for end in (difference.low, difference.high) if end is not None)
    if unit == " %" and (not ends or ends[-1] - ends[0] < 2):
        decimals = 1
    text = f"{mean:.{decimals}f}".replace("-", MINUS) if unsigned else format_delta(mean, decimals)
    return f"{text}{unit}" + (f" {format_interval(ends[0], ends[-1], decimals)}" if ends else "")
