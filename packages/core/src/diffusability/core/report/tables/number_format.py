"""Numbers, durations and dates as the report writes them."""

import math
import re
from collections.abc import Sequence
from datetime import datetime

ABSENT = "—"
MINUS = "\u2212"


_POWER = re.compile(r"1e([+-]?\d+)")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def readable_unit(unit: str) -> str:
    """A unit as readers know it: ``1e-3`` is a power of ten; others stay as they are."""
    power = _POWER.fullmatch(unit)
    return unit if power is None else f"\u00d710{str(int(power[1])).translate(_SUPERSCRIPTS)}"


def column_decimals(values: Sequence[float]) -> int | None:
    """Decimals for all numbers of a column: four significant digits of the largest, two at least below 10,000.

    None when the column is better written in scientific notation.
    """
    largest = max((abs(value) for value in values), default=0.0)
    if largest == 0:
        return 2
    exponent = math.floor(math.log10(largest))
    if not -3 <= exponent <= 6:
        return None
    return max(3 - exponent, 2 if exponent < 4 else 0)


def format_number(value: float, decimals: int | None) -> str:
    """A number with that many decimals, or in scientific notation, with a proper minus sign."""
    text = f"{value:.3e}" if decimals is None else f"{value:.{decimals}f}"
    return text.replace("-", MINUS)


def format_delta(delta: float, decimals: int | None) -> str:
    """A signed difference with the decimals of its column, or more, so that it does not round to zero."""
    if delta == 0:
        return "±0"
    needed = -math.floor(math.log10(abs(delta)))
    if decimals is None or needed > 6:
        return f"{delta:+.1e}".replace("-", MINUS)
    return f"{delta:+.{max(decimals, needed)}f}".replace("-", MINUS)


def format_interval(low: float | None, high: float | None, decimals: int | None) -> str:
    """The ends of an interval in brackets, or nothing where one is missing.

    They have the decimals of their column, or more (six at most), so that an end does not round to zero or to the
    other one.
    """
    if low is None or high is None:
        return ""
    needed, between = (
        max((-math.floor(math.log10(abs(size))) for size in sizes if size != 0), default=0)
        for sizes in ((low, high), (high - low,))
    )
    shown = None if decimals is None or needed > 6 else max(decimals, needed, min(between, 6))
    return f"[{format_number(low, shown)}, {format_number(high, shown)}]"


def format_seconds(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def format_date(iso: str) -> str:
    """An ISO 8601 time to the minute; what is not one is returned as it is."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{moment:%Y-%m-%d %H:%M %Z}".strip()
