"""The table's arithmetic: best values, differences, decimals, blocks, and warnings."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusability.core.report.comparison import Comparison, compare
from diffusability.core.report.pages.headline import key_results
from diffusability.core.report.tables.measured_column import best_places
from diffusability.core.report.tables.metric_table import metric_columns
from diffusability.core.report.tables.number_format import (
    MINUS,
    column_decimals,
    format_delta,
    format_interval,
    format_number,
    format_seconds,
    readable_unit,
)
from diffusability.core.run.folder_reader import Run, Stage
from diffusability.core.run.metric_names import info_of
from diffusability.core.run.results import Metric
from diffusability.core.specs.metric_info import MetricInfo


def comparison_of(values: Mapping[str, Mapping[str, Metric]], stage: str = "spectrum") -> Comparison:
    """A comparison of variants that evaluated one stage each."""
    variants = {
        variant: {stage: Stage(name=stage, kind="evaluate", status="done", metrics=metrics)}
        for variant, metrics in values.items()
    }
    run = Run(directory=Path(), name="run", created="", command="", versions={}, variants=variants, spec=None, notes=[])
    return compare([run])


def metric(name: str, value: float | None, direction: bool | None = True, **fields: Any) -> Metric:
    """A metric of 512 samples unless told otherwise."""
    return Metric(name=name, value=value, higher_is_better=direction, **{"num_samples": 512, **fields})


@pytest.mark.parametrize(
    ("values", "direction", "best"),
    [
        ([1.0, 3.0, 2.0], True, {1}),
        ([1.0, 3.0, 2.0], False, {0}),
        ([1.0, 3.0, 3.0], True, {1, 2}),
        ([None, 3.0, 2.0], False, {2}),
        ([1.0, 3.0], None, set()),
        ([2.0, 2.0], True, set()),
        ([None, 2.0], True, set()),
        ([], True, set()),
    ],
)
def test_best_places(values: list[float | None], direction: bool | None, best: set[int]) -> None:
    """Held against the answers of a reader: ties win together, a value without a rival wins nothing."""
    assert best_places(values, direction) == best


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.booleans())
def test_reversing_the_direction_is_negating_the_values(values: list[float], direction: bool) -> None:
    """Lower is better exactly where higher is better for the negated values."""
    negated: list[float | None] = [-value for value in values]
    given_values: list[float | None] = list(values)
    assert best_places(given_values, direction) == best_places(negated, not direction)


def test_differences_say_whether_they_are_for_the_better() -> None:
    """A FID that is lower by more than chance improves; a metric without a direction, or without spread, does not."""
    columns = metric_columns(
        comparison_of(
            {
                "vanilla": {"fid": metric("fid", 20.0, False, spread=0.1), "kl": metric("kl", 1.0, None, spread=0.1)},
                "se": {"fid": metric("fid", 18.5, False, spread=0.1), "kl": metric("kl", 0.5, None, spread=0.1)},
                "bad": {"fid": metric("fid", 25.0, False, spread=0.1)},
                "same": {"fid": metric("fid", 20.0, False, spread=0.1)},
                "near": {"fid": metric("fid", 19.9, False, spread=0.1)},
                "bare": {"fid": metric("fid", 18.0, False)},
            }
        )
    )
    fid, kl = columns
    assert (fid.arrow, kl.arrow) == ("↓", "")
    assert [cell.delta for cell in fid.cells] == ["", f"{MINUS}1.50", "+5.00", "±0", f"{MINUS}0.10", f"{MINUS}2.00"]
    assert [cell.improves for cell in fid.cells] == [None, True, False, None, None, None]
    assert [cell.improves for cell in kl.cells] == [None] * 6
    assert [cell.text for cell in kl.cells] == ["1.000", "0.500", *"————"]


def test_spreads_are_shown_beside_their_numbers() -> None:
    """Where there is one, with what it is over; nothing elsewhere."""
    settings = {"spread_over": "subsets"}
    comparison = comparison_of(
        {
            "a": {"psnr": metric("psnr", 30.0, spread=0.0123)},
            "b": {"psnr": metric("psnr", 31.0, spread=2.0, settings=settings)},
            "c": {"psnr": metric("psnr", 32.0)},
        }
    )
    cells = metric_columns(comparison)[0].cells
    assert [cell.spread for cell in cells] == ["± 0.012", "± 2", ""]
    assert "± 0.012 over bootstrap samples" in cells[0].title
    assert "± 2 over subsets" in cells[1].title


def test_results_of_a_shared_stage_have_no_difference() -> None:
    """Variants that share the folder of the baseline have its very result; another folder's equal result is ±0."""
    stages = [
        Stage(
            name="s",
            kind="evaluate",
            status="done",
            directory=Path(folder),
            metrics={"fid": metric("fid", 20.0, False)},
        )
        for folder in ("one", "one", "two")
    ]
    variants = {name: {"s": stage} for name, stage in zip("abc", stages, strict=True)}
    run = Run(directory=Path(), name="run", created="", command="", versions={}, variants=variants, spec=None, notes=[])
    (column,) = metric_columns(compare([run]))
    assert [cell.delta for cell in column.cells] == ["", "", "±0"]
    assert not any(cell.best for cell in column.cells)


def test_differing_ways_of_measuring_are_pointed_out() -> None:
    """FIDs of other sample counts or settings are not comparable without a word."""
    counts = {"a": {"fid": metric("fid", 1.0)}, "b": {"fid": metric("fid", 2.0, num_samples=64)}}
    settings = {
        "a": {"fid": metric("fid", 1.0, settings={"features": "x", "size": 8})},
        "b": {"fid": metric("fid", 2.0, settings={"features": "y", "size": 8})},
    }
    equal = {"a": {"fid": metric("fid", 1.0)}, "b": {"fid": metric("fid", 2.0)}}
    assert metric_columns(comparison_of(counts))[0].warning == "variants differ in numbers of samples (512, 64)"
    assert metric_columns(comparison_of(settings))[0].warning == "variants differ in settings (features)"
    assert metric_columns(comparison_of(equal))[0].warning == ""


def test_metric_of_the_images_is_a_reference_unless_variants_disagree() -> None:
    """``rgb_x`` next to ``x`` becomes a reference while all variants agree on it, and a column otherwise."""
    agree = {name: {"x": metric("x", 1.0), "rgb_x": metric("rgb_x", 0.25, None)} for name in "ab"}
    differ = {
        name: {"x": metric("x", 1.0), "rgb_x": metric("rgb_x", value, None)} for name, value in (("a", 0.2), ("b", 0.3))
    }
    alone = {"a": {"rgb_y": metric("rgb_y", 1.0)}}
    assert [(column.metric, column.reference) for column in metric_columns(comparison_of(agree))] == [("x", "0.250")]
    assert [column.metric for column in metric_columns(comparison_of(differ))] == ["x", "rgb_x"]
    assert [column.metric for column in metric_columns(comparison_of(alone))] == ["rgb_y"]


@pytest.mark.parametrize(
    ("unit", "shown"),
    [("1e-3", "\u00d710\u207b\u00b3"), ("1e6", "\u00d710\u2076"), ("dB", "dB"), ("", ""), ("1e-3 nats", "1e-3 nats")],
)
def test_powers_of_ten_are_readable_units(unit: str, shown: str) -> None:
    """Superscript digits by their code points; units that are no power of ten alone stay."""
    assert readable_unit(unit) == shown


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.1699999, 0.17000001, "[0.170000, 0.170000]"),
        (0.16997, 0.17003, "[0.16997, 0.17003]"),
        (-5.0, -5.0, f"[{MINUS}5.00, {MINUS}5.00]"),
        (0.004, 0.2, "[0.004, 0.200]"),
        (1e-9, 0.2, "[1.000e\u221209, 2.000e\u221201]"),
    ],
)
def test_intervals_have_as_many_decimals_as_tell_their_ends_apart(low: float, high: float, shown: str) -> None:
    """Six at most for ends that are nearly equal, which are then the same; scientific for one next to zero alone."""
    assert format_interval(low, high, 2) == shown


def test_key_results_begin_with_generation_and_name_the_winner() -> None:
    """FDD comes before PSNR, whatever the order of results; unranked metrics are not among them."""
    comparison = comparison_of(
        {
            "vanilla": {
                "psnr": metric("psnr", 30.4),
                "gap": metric("gap", 1.0, None),
                "fdd": metric("fdd", 400.0, False),
            },
            "se": {"psnr": metric("psnr", 30.2), "gap": metric("gap", 0.5, None), "fdd": metric("fdd", 300.0, False)},
        }
    )
    keys = key_results(comparison, metric_columns(comparison))
    assert [(key.column.metric, key.variant.label, key.value) for key in keys] == [
        ("fdd", "se", "300.00"),
        ("psnr", "vanilla", "30.40"),
    ]
    assert keys[0].verdict == f"{MINUS}100.00 ({MINUS}25.0%) vs vanilla"
    assert keys[1].verdict == "best; no variant improves on it"


@given(st.floats(1e-3, 1e6))
def test_numbers_keep_four_significant_digits(value: float) -> None:
    """Reading the text again gives the value within half a unit of the fourth digit."""
    text = format_number(value, column_decimals([value]))
    assert math.isclose(float(text), value, rel_tol=5.1e-4)


@given(st.floats(1e-5, 1e5), st.booleans(), st.integers(0, 6))
def test_differences_never_round_to_zero(size: float, negative: bool, decimals: int) -> None:
    """Reading the text again gives the sign, and the size within half a unit of the last digit shown."""
    delta = -size if negative else size
    text = format_delta(delta, decimals).replace(MINUS, "-")
    assert float(text) * delta > 0
    assert math.isclose(float(text), delta, rel_tol=0.5)
    assert text[0] == ("-" if negative else "+")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "—"), (0.04, "0.0 s"), (59.4, "59 s"), (75.0, "1 min 15 s"), (7384.0, "2 h 3 min"), (93600.0, "1 d 2 h")],
)
def test_durations(seconds: float | None, text: str) -> None:
    """Held against durations worked out by hand."""
    assert format_seconds(seconds) == text


def test_metrics_that_were_written_without_a_label_are_shown_by_name() -> None:
    """Known names as installed evaluators call them, unknown ones in a readable form of themselves."""
    names = ("psnr", "rgb_sec", "my_new_score", "radial_energy_curve")
    assert [info_of(Metric(name=name)).label for name in names] == ["PSNR", "RGB SEC", "My new score", "Radial energy"]
    assert info_of(Metric(name="psnr", info=MetricInfo(label="Other"))).label == "Other"
