"""What is drawn: the lines of figures, held against the numbers they were made of."""

import json
from itertools import pairwise
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from diffusability.core.report.comparison import Comparison, compare
from diffusability.core.report.figures.curve_figures import curve_figures
from diffusability.core.report.figures.line_styles import REFERENCE_DASHES, variant_style
from diffusability.core.report.figures.pictures import sample_rows
from diffusability.core.report.figures.training_figures import optimisation_figures, training_figures
from diffusability.core.run.folder_reader import Run, Stage
from diffusability.core.run.results import Metric, MetricCurve, parse_metrics
from diffusability.core.run.training_log import Series, is_wide, read_training_log, smooth


def comparison_of(variants: dict[str, dict[str, Stage]]) -> Comparison:
    """A comparison of the variants of one run."""
    run = Run(directory=Path(), name="run", created="", command="", versions={}, variants=variants, spec=None, notes=[])
    return compare([run])


def stage(name: str, /, **curves: list[float]) -> Stage:
    """An evaluated stage with curves over 0, 1, 2, ..."""
    metrics = {
        metric: Metric(
            name=metric,
            curve=MetricCurve(
                x=np.arange(len(y), dtype=np.float64),
                y=np.array(y),
                y_std=np.full(len(y), 0.1),
                x_label="index",
                y_label="log amplitude",
            ),
        )
        for metric, y in curves.items()
    }
    return Stage(name=name, kind="evaluate", status="done", metrics=metrics)


def lines_of(axes: Axes) -> list[tuple[str, tuple[float, ...], list[float]]]:
    """Colour, dashes in line widths, and ordinates of each line."""
    return [
        (str(line.get_color()), dashes_in_widths(line), np.asarray(line.get_ydata()).tolist())
        for line in axes.get_lines()
    ]


def dashes_in_widths(line: object) -> tuple[float, ...]:
    """The pattern that matplotlib was given, without its offset."""
    pattern = line._unscaled_dash_pattern[1]  # type: ignore[attr-defined]
    return tuple(pattern) if pattern else ()


def test_spectra_of_all_variants_share_an_axis_with_rgb() -> None:
    """One line per variant in its own style, RGB pooled dashed and RGB dotted in black, each with its own data."""
    rgb = {"rgb_pooled_spectrum_curve": [0.0, -2.0, -4.0], "rgb_spectrum_curve": [0.0, -3.0, -5.0]}
    comparison = comparison_of(
        {
            "vanilla": {"spectrum": stage("spectrum", latent_spectrum_curve=[0.0, -1.0, -2.0], **rgb)},
            "se": {"spectrum": stage("spectrum", latent_spectrum_curve=[0.0, -1.5, -3.0], **rgb)},
        }
    )
    (figure,) = curve_figures(comparison)
    (axes,) = figure.figure.axes
    assert lines_of(axes) == [
        (variant_style(0).color, variant_style(0).dashes, [0.0, -1.0, -2.0]),
        (variant_style(1).color, variant_style(1).dashes, [0.0, -1.5, -3.0]),
        ("#000000", REFERENCE_DASHES[0], [0.0, -2.0, -4.0]),
        ("#000000", REFERENCE_DASHES[1], [0.0, -3.0, -5.0]),
    ]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("index", "log amplitude")
    (legend,) = figure.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "vanilla",
        "se",
        "RGB, pooled to latent size",
        "RGB, own size",
    ]


def test_rgb_curves_that_differ_are_all_drawn() -> None:
    """Variants with latents of other sizes pool RGB differently; neither curve may hide the other."""
    comparison = comparison_of(
        {
            "f8": {"s": stage("s", latent_spectrum_curve=[0.0, -1.0], rgb_pooled_spectrum_curve=[0.0, -2.0])},
            "f16": {"s": stage("s", latent_spectrum_curve=[0.0, -1.0], rgb_pooled_spectrum_curve=[0.0, -2.5])},
        }
    )
    (figure,) = curve_figures(comparison)
    labels = [text.get_text() for text in figure.figure.legends[0].get_texts()]
    assert labels[2:] == ["RGB, pooled to latent size (f8: s)", "RGB, pooled to latent size (f16: s)"]
    assert len({(color, str(y)) for color, _, y in lines_of(figure.figure.axes[0])[2:]}) == 2


def test_every_unknown_curve_has_an_axis_of_its_own() -> None:
    """Names that would be the same file stay two figures; the legend names every variant."""
    curves = {"a/b_curve": [1.0, 2.0], "a b_curve": [2.0, 3.0], "spectrum": [3.0, 4.0]}
    comparison = comparison_of({name: {"probe": stage("probe", **curves)} for name in ("one", "two", "three")})
    figures = curve_figures(comparison)
    assert len({figure.name for figure in figures}) == 3
    assert [figure.title for figure in figures] == ["A/b", "A b", "Spectrum"]
    assert all(len(figure.figure.axes[0].get_lines()) == 3 for figure in figures)


def test_stages_on_one_axis_are_told_apart(tmp_path: Path) -> None:
    """Before and after fine-tuning: the shared stage once, for all variants, with a marker of its own."""
    before = attrs.evolve(stage("before", chop_off_curve=[1.0, 2.0]), directory=tmp_path / "before")
    comparison = comparison_of(
        {
            name: {
                "before": before,
                "after": attrs.evolve(stage("after", chop_off_curve=[place, 3.0]), directory=tmp_path / name),
            }
            for place, name in enumerate(("vanilla", "se"))
        }
    )
    (figure,) = curve_figures(comparison)
    labels = [text.get_text() for text in figure.figure.legends[0].get_texts()]
    assert labels == ["all variants: before", "vanilla: after", "se: after"]
    markers = [line.get_marker() for line in figure.figure.axes[0].get_lines()]
    assert markers[1] == markers[2] != markers[0]


def test_line_styles_differ_in_color_and_in_dashes() -> None:
    """Fifty-six variants differ; neighbours differ in both, so that a grayscale print can be read."""
    styles = [variant_style(place) for place in range(56)]
    assert len({(style.color, style.dashes) for style in styles}) == 56
    for first, second in pairwise(styles):
        assert first.color != second.color
        assert first.dashes != second.dashes


def write_log(path: Path, rows: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_training_log_takes_the_last_line_of_a_step(tmp_path: Path) -> None:
    """A resumed run logs steps again; lines of evaluation join the step; null is a gap; a cut line is counted."""
    path = tmp_path / "dit-01234567" / "metrics.jsonl"
    write_log(
        path, [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 9.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": None}]
    )
    with path.open("a") as file:
        file.write('{"step": 2, "eval/psnr": 20.5}\n{"step": 4, "lo')
    notes: list[str] = []
    log = read_training_log(path, notes)
    assert log["loss"].steps.tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(log["loss"].values, [3.0, 2.0, np.nan])
    assert (log["eval/psnr"].steps.tolist(), log["eval/psnr"].values.tolist()) == ([2.0], [20.5])
    assert notes == ["dit-01234567/metrics.jsonl: 1 of 6 lines cannot be read"]


def test_panels_are_the_loss_its_terms_and_evaluations() -> None:
    """A term that equals the loss is left out; counters are; speed is a figure of its own."""
    steps = np.arange(1.0, 31.0)

    def log(**values: float) -> dict[str, Series]:
        return {key.replace("__", "/"): Series(steps=steps, values=value / steps) for key, value in values.items()}

    def trained(log: dict[str, Series]) -> dict[str, Stage]:
        return {"dit": Stage(name="dit", kind="train", status="done", log=log)}

    comparison = comparison_of(
        {
            "a": trained(log(loss=2.0, velocity=2.0, samples=1.0, lr=0.1)),
            "b": trained(log(velocity=3.0, loss=3.0, aux=0.5, eval__psnr=9.0)),
        }
    )
    losses, evaluated = training_figures(comparison)
    assert [axes.get_title(loc="left") for axes in losses.figure.axes] == ["loss", "aux"]
    assert [axes.get_title(loc="left") for axes in evaluated.figure.axes] == ["PSNR"]
    assert [len(axes.get_lines()) for axes in losses.figure.axes] == [4, 2]
    assert losses.figure.axes[0].get_yscale() == "log"
    (optimisation,) = optimisation_figures(comparison)
    assert [axes.get_title(loc="left") for axes in optimisation.figure.axes] == ["learning rate"]


def test_smoothing_is_a_moving_average() -> None:
    """Held against numpy's convolution where the window fits, and the plain mean of what is left at the end."""
    values = np.random.default_rng(0).normal(size=50)
    smoothed = smooth(values, 7)
    np.testing.assert_allclose(smoothed[3:-3], np.convolve(values, np.ones(7) / 7, mode="valid"), rtol=1e-12)
    np.testing.assert_allclose(smoothed[[0, 1]], [values[0], values[:3].mean()], rtol=1e-12)
    np.testing.assert_allclose(smoothed[-1], values[-4:].mean(), rtol=1e-12)


@given(st.floats(-1e6, 1e6), st.integers(1, 40), st.integers(1, 9), st.integers(0, 39))
def test_smoothing_keeps_constants_and_gaps(value: float, count: int, half: int, gap: int) -> None:
    """A constant stays exactly what it is, and NaN spreads to no neighbour."""
    values = np.full(count, value)
    values[gap % count] = np.nan
    np.testing.assert_array_equal(smooth(values, 2 * half + 1), values)


@pytest.mark.parametrize(
    ("values", "wide"),
    [([1.0, 2.0], False), ([1.0, 1000.0], True), ([0.0, 1000.0], False), ([-1.0, 50.0], False), ([np.nan, 3.0], False)],
)
def test_wide_positive_ranges_are_drawn_on_a_log_axis(values: list[float], wide: bool) -> None:
    """A logarithm needs positive values, and pays when they differ by more than a factor of ten."""
    assert is_wide(np.array(values)) is wide


def test_curves_are_sorted_and_points_that_are_not_finite_become_gaps() -> None:
    """``x`` in any order; infinity, null and text become NaN; a spread of another length is dropped."""
    raw = {"x": [2, 0, 1], "y": [float("inf"), 5, None], "x_label": "share", "y_std": [0.1]}
    metrics = parse_metrics({"c_curve": {"curve": raw}}, "here", [])
    curve = metrics["c_curve"].curve
    assert curve is not None
    np.testing.assert_array_equal(curve.x, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(curve.y, [5.0, np.nan, np.nan])
    assert (curve.x_label, curve.y_label, curve.y_std) == ("share", "", None)


def test_latest_sample_of_each_title_is_chosen(tmp_path: Path) -> None:
    """Steps are compared as numbers: 1,000 comes after 999 although it sorts before it."""
    samples = tmp_path / "samples"
    samples.mkdir()
    for name in ("step-999", "step-1000", "step-0000010-classes", "best"):
        (samples / f"{name}.png").touch()
    trained = Stage(name="dit", kind="train", status="done", directory=tmp_path)
    rows = sample_rows(comparison_of({"a": {"dit": trained}}))
    chosen = {row.title: (row.pictures[0].path, row.pictures[0].note) for row in rows}
    assert chosen == {
        "": (samples / "step-1000.png", "step 1,000"),
        "best": (samples / "best.png", ""),
        "classes": (samples / "step-0000010-classes.png", "step 10"),
    }
    assert rows[0].title == "best"


def denoiser_stage(offset: float) -> Stage:
    """A trained denoiser with losses in two bins of time, and a metric at three steps."""
    steps = np.arange(1.0, 31.0)
    log = {
        "loss": Series(steps=steps, values=0.5 + offset + 1 / steps),
        "velocity_t0.00-0.25": Series(steps=steps, values=0.8 + offset + 1 / steps),
        "velocity_t0.75-1.00": Series(steps=steps, values=0.3 + offset + 1 / steps),
        "eval/fid": Series(steps=steps[9::10], values=np.array([90.0, 60.0, 50.0]) + offset),
    }
    return Stage(name="dit", kind="train", status="done", metrics={}, log=log)


def test_convergence_draws_the_metric_of_all_variants_on_one_axis() -> None:
    """Steps and values of each line, and the variants' colours, against the logs."""
    comparison = comparison_of({"plain": {"dit": denoiser_stage(0.0)}, "se": {"dit": denoiser_stage(-10.0)}})
    figure = next(drawn for drawn in training_figures(comparison) if drawn.name == "convergence-dit")
    axes = [panel for panel in figure.figure.axes if panel.get_visible()]
    assert len(axes) == 1
    drawn = [(line.get_color(), list(line.get_xdata()), list(line.get_ydata())) for line in axes[0].get_lines()]
    assert drawn == [
        (variant_style(0).color, [10.0, 20.0, 30.0], [90.0, 60.0, 50.0]),
        (variant_style(1).color, [10.0, 20.0, 30.0], [80.0, 50.0, 40.0]),
    ]
    assert axes[0].get_xlabel() == "step"


def test_losses_by_time_share_a_scale_and_leave_the_losses() -> None:
    """Names of figures and panels, and the panels' ranges: equal, although the bins' losses differ."""
    comparison = comparison_of({"plain": {"dit": denoiser_stage(0.0)}})
    figures = {drawn.name: drawn for drawn in training_figures(comparison)}
    assert list(figures) == ["training-dit", "convergence-dit", "loss-by-time-dit"]
    panels = [axes for axes in figures["loss-by-time-dit"].figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "velocity, t in [0.00, 0.25)",
        "velocity, t in [0.75, 1.00)",
    ]
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert panels[0].get_ylim()[1] >= 1.8
    titles = [axes.get_title(loc="left") for axes in figures["training-dit"].figure.axes if axes.get_visible()]
    assert titles == ["loss"]


def seeded_comparison(stages: dict[str, dict[str, Stage]]) -> Comparison:
    """A comparison of variants called ``BASE-seedN``."""
    run = comparison_of(stages).runs[0]
    seeds = {name: (name.partition("-")[0], int(name[-1])) for name in stages}
    return compare([attrs.evolve(run, seeds=seeds)])


def test_seeds_of_a_variant_are_thin_lines_of_one_colour_and_one_entry_of_the_legend() -> None:
    """Curves and losses of two variants with two seeds; of the losses, the smoothed lines alone."""
    stages = {
        f"{base}-seed{seed}": {
            "measure": stage("measure", spectrum_curve=[0.0, -1.0 - seed, -2.0]),
            "dit": attrs.evolve(denoiser_stage(float(seed)), directory=Path(f"dit-{base}-{seed}")),
        }
        for seed in (0, 1)
        for base in ("plain", "se")
    }
    comparison = seeded_comparison(stages)
    (curves,) = curve_figures(comparison)
    colors = [variant_style(place).color for place in (0, 1)]
    assert [line.get_color() for line in curves.figure.axes[0].get_lines()] == colors * 2
    for figure in (curves, training_figures(comparison)[0]):
        (legend,) = figure.figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["plain", "se"]
        lines = figure.figure.axes[0].get_lines()
        assert len(lines) == 4
        assert all(line.get_linewidth() < 0.6 * variant_style(0).width for line in lines)


def test_a_stage_of_all_seeds_bears_the_name_of_the_variant(tmp_path: Path) -> None:
    """Folders of one seed, of all seeds of a variant, of one seed of all variants, and of everybody."""
    own = attrs.evolve(stage("own"), directory=Path("own"))
    stages = {
        f"{base}-seed{seed}": {
            name: attrs.evolve(own, directory=Path(f"{name}-{owner}"))
            for name, owner in (("one", f"{base}{seed}"), ("base", base), ("seed", str(seed)), ("all", ""))
        }
        for seed in (0, 1)
        for base in ("plain", "se")
    }
    comparison = seeded_comparison(stages)
    labels = {
        name: [(folder.label, folder.base) for folder in comparison.folders(name)] for name in comparison.stage_names
    }
    assert labels == {
        "one": [("plain-seed0", "plain"), ("se-seed0", "se"), ("plain-seed1", "plain"), ("se-seed1", "se")],
        "base": [("plain", "plain"), ("se", "se")],
        "seed": [("plain-seed0, se-seed0", "all variants"), ("plain-seed1, se-seed1", "all variants")],
        "all": [("all variants", "all variants")],
    }
    assert [folder.is_one_of_several_seeds for folder in comparison.all_folders()] == [True] * 4 + [False] * 2 + [
        True
    ] * 2 + [False]


def test_pictures_are_those_of_the_first_seed_that_has_them(tmp_path: Path) -> None:
    """The first seed of ``se`` has drawn nothing yet."""
    stages = {}
    for name in ("plain-seed0", "se-seed0", "plain-seed1", "se-seed1"):
        directory = tmp_path / name
        (directory / "samples").mkdir(parents=True)
        if name != "se-seed0":
            (directory / "samples" / "samples.png").write_bytes(b"")
        stages[name] = {"generate": attrs.evolve(stage("generate"), directory=directory)}
    (row,) = sample_rows(seeded_comparison(stages))
    assert [picture.label for picture in row.pictures] == ["plain-seed0", "se-seed1"]


def test_references_far_off_leave_the_variants_their_range() -> None:
    """The first panel has the variants' range with a margin, the second everything; both hold all lines.

    The reference spans 40 dB, the variants 10: on one axis they would lie on each other.
    """
    rgb = {"rgb_chop_off_curve": [20.0, 40.0, 60.0]}
    variants = {
        name: {"measure": stage("measure", chop_off_curve=[20.0 + offset, 25.0, 30.0], **rgb)}
        for name, offset in (("vanilla", 0.0), ("se", 0.5))
    }
    (figure,) = curve_figures(comparison_of(variants))
    own, whole = figure.figure.axes
    assert own.get_ylim() == (19.5, 30.5)
    low, high = whole.get_ylim()
    assert low < 20
    assert high > 60
    assert lines_of(own) == lines_of(whole)
    assert len(lines_of(own)) == 3
    assert own.get_ylabel() == "log amplitude"


def test_references_nearby_share_the_only_panel() -> None:
    """A range of 1.5 times the variants' own; also where the variants are flat, or have no finite value."""
    for latents in ([0.0, -1.0, -2.0], [1.0, 1.0, 1.0], [np.nan] * 3):
        curves = {"latent_spectrum_curve": latents, "rgb_spectrum_curve": [0.0, -2.0, -3.0]}
        (figure,) = curve_figures(comparison_of({"a": {"s": stage("s", **curves)}}))
        assert len(figure.figure.axes) == 1
