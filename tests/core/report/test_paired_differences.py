"""Paired differences against scipy, closed forms and simulations of known covariance."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from diffusability.core.contracts.sample_values import SampleValues, jackknife_error
from diffusability.core.errors import DataError
from diffusability.core.report.comparison import compare
from diffusability.core.report.pages.headline import key_results
from diffusability.core.report.pages.verdict import how_compared, verdicts
from diffusability.core.report.tables.differences import difference
from diffusability.core.report.tables.metric_table import metric_columns
from diffusability.core.report.tables.paired_values import paired_interval
from diffusability.core.report.tables.seed_values import seed_values
from diffusability.core.run.folder_reader import Run, Stage
from diffusability.core.run.results import Metric
from diffusability.core.run.values_file import KeptValues, read_values, write_values
from diffusability.core.scoring.scorecard_table import scorecard_table

MINUS = "\u2212"


def measured(name, folder, values, images=None, direction=True, unit="dB", keep=True):
    """A stage whose metric is the mean of these values, and what it kept of them."""
    mean, count = float(np.mean(values)), len(values)
    metric = Metric(
        name=name,
        value=mean,
        unit=unit,
        higher_is_better=direction,
        num_samples=count,
        spread=float(np.std(values) / count**0.5),
    )
    kept = KeptValues(
        metrics={name: SampleValues.from_samples(range(count), values)} if keep else {},
        images={index: index + 7 for index in range(count)} if images is None else images,
    )
    return Stage(
        name="measure", kind="evaluate", status="done", directory=Path(folder), metrics={name: metric}, kept=kept
    )


def joined(*stages):
    """One stage with the metrics of all."""
    metrics = {name: metric for stage in stages for name, metric in stage.metrics.items()}
    kept = {name: values for stage in stages for name, values in stage.kept.metrics.items()}
    first = stages[0]
    return Stage(
        name=first.name,
        kind=first.kind,
        status=first.status,
        directory=first.directory,
        metrics=metrics,
        kept=KeptValues(metrics=kept, images=first.kept.images),
    )


def comparison(stages, seeds=None):
    """The variants of one run."""
    variants = {name: {stage.name: stage} for name, stage in stages.items()}
    return compare(
        [
            Run(
                directory=Path(),
                name="run",
                created="",
                command="",
                versions={},
                variants=variants,
                spec=None,
                notes=[],
                seeds=seeds or {},
            )
        ]
    )


def between(first, second, metric="psnr"):
    groups = comparison({"control": first, "se": second}).groups
    return difference(*(seed_values(group, "measure", metric) for group in groups))


def photographs(gain=-0.151, count=256, seed=0):
    """PSNR of two autoencoders that differ by far less than photographs do: 0.3 dB around the gain, 5 dB around 30."""
    generator = np.random.default_rng(seed)
    control = generator.normal(30, 5, count)
    return control, control + generator.normal(gain, 0.36, count)


def test_six_sigma_are_not_noise():
    """256 photographs whose PSNR scatters by 5 dB, two autoencoders 0.15 dB apart: told by pairs, lost without."""
    control, se = photographs()
    paired = between(measured("psnr", "a", control), measured("psnr", "b", se))
    assert (paired.paired, paired.significant, paired.improves(True)) == (True, True, False)
    assert paired.method == "paired bootstrap over 256 samples"
    assert abs(paired.mean) / ((paired.high - paired.low) / 3.92) > 5
    unpaired = between(measured("psnr", "a", control), measured("psnr", "b", se, keep=False))
    assert (unpaired.paired, unpaired.significant, unpaired.improves(True)) == (False, False, None)
    assert unpaired.method == "unpaired, since no values of single samples were kept"
    assert unpaired.mean == pytest.approx(paired.mean)


def test_the_interval_is_scipys():
    """scipy.stats.bootstrap, paired, up to its own noise; of few samples, scipy's t interval of the differences."""
    control, se = photographs(count=64)
    gain = between(measured("psnr", "a", control), measured("psnr", "b", se))
    reference = stats.bootstrap(
        (control, se), lambda a, b, axis: (b - a).mean(axis), paired=True, vectorized=True, rng=3
    ).confidence_interval
    assert (gain.low, gain.high) == pytest.approx((reference.low, reference.high), abs=0.02)
    few = between(measured("psnr", "a", control[:8]), measured("psnr", "b", se[:8]))
    reference = stats.ttest_rel(se[:8], control[:8]).confidence_interval(0.95)
    assert (few.low, few.high) == pytest.approx((reference.low, reference.high))
    assert few.method == "paired t interval over 8 samples"


@pytest.mark.parametrize("correlation", [0.0, 0.9])
@pytest.mark.parametrize("count", [12, 40])
def test_coverage_and_width_under_a_known_covariance(correlation, count):
    """Normal pairs of unit variance: 95 of 100 intervals hold the truth; the width follows from 2 (1 - r) / n."""
    generator = np.random.default_rng(1)
    trials, gain = 300, 0.3
    covariance = np.array([[1, correlation], [correlation, 1]])
    held, widths, unpaired = 0, [], []
    for _ in range(trials):
        first, second = generator.multivariate_normal([0, gain], covariance, count).T
        values = [SampleValues.from_samples(range(count), numbers) for numbers in (first, second)]
        interval = paired_interval(first.mean(), second.mean(), *values)
        held += interval.low <= gain <= interval.high
        widths.append(interval.high - interval.low)
        unpaired.append(2 * stats.norm.ppf(0.975) * np.hypot(first.std(), second.std()) / count**0.5)
    assert 0.95 - 3 * (0.95 * 0.05 / trials) ** 0.5 - 0.015 <= held / trials <= 0.985
    quantile = stats.t.ppf(0.975, count - 1) if count < 30 else stats.norm.ppf(0.975)
    assert np.mean(widths) == pytest.approx(2 * quantile * (2 * (1 - correlation) / count) ** 0.5, rel=0.06)
    ratio = (1 - correlation) ** 0.5 * quantile / stats.norm.ppf(0.975)
    assert np.mean(widths) / np.mean(unpaired) == pytest.approx(ratio, rel=0.08)


def test_jackknife_of_a_mean_is_its_standard_error():
    """Closed form: groups of one give ``std / sqrt(n)``; equal groups that of group means; scipy's t interval."""
    control, se = photographs(count=24)
    for size in (1, 4):
        groups = 24 // size
        parts = np.arange(24) % groups
        left_out = [np.array([values[parts != k].mean() for k in range(groups)]) for values in (control, se)]
        counts = np.full(groups, size)
        gains = np.array([(se - control)[parts == k].mean() for k in range(groups)])
        error = jackknife_error(se.mean() - control.mean(), left_out[1] - left_out[0], counts)
        assert error == pytest.approx(stats.sem(gains))
        values = [SampleValues.without_groups(range(groups), numbers, counts) for numbers in left_out]
        interval = paired_interval(control.mean(), se.mean(), *values)
        assert (interval.low, interval.high) == pytest.approx(stats.t.interval(0.95, groups - 1, gains.mean(), error))
        assert interval.method == f"paired jackknife over {groups} groups of samples"


def test_jackknife_of_unequal_groups_is_near_the_standard_error():
    """A mean of 25 samples in 8 groups, 400 draws: the mean square error is the variance of the mean."""
    generator = np.random.default_rng(2)
    parts = np.arange(25) % 8
    counts = np.bincount(parts)
    errors = []
    for _ in range(400):
        values = generator.normal(size=25)
        left_out = np.array([values[parts != k].mean() for k in range(8)])
        errors.append(jackknife_error(values.mean(), left_out, counts) ** 2)
    assert np.mean(errors) == pytest.approx(1 / 25, rel=0.1)


def test_three_seeds_have_students_interval():
    """Against scipy, over seeds that move both variants together; the percentile bootstrap is far narrower."""
    shared, gains = [30.0, 31.0, 29.0], [-0.1, -0.2, -0.12]
    stages, seeds = {}, {}
    for seed, (level, gain) in enumerate(zip(shared, gains, strict=True)):
        for base, value in (("control", level), ("se", level + gain)):
            name = f"{base}-seed{seed}"
            stages[name], seeds[name] = measured("psnr", name, [value - 1, value + 1]), (base, seed)
    groups = comparison(stages, seeds).groups
    mean_gain = difference(*(seed_values(group, "measure", "psnr") for group in groups))
    reference = stats.t.interval(0.95, 2, np.mean(gains), stats.sem(gains))
    assert (mean_gain.low, mean_gain.high) == pytest.approx(reference)
    assert (mean_gain.num_seeds, mean_gain.method, mean_gain.paired) == (3, "paired t interval over 3 seeds", True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": {index: index for index in range(40)}}, "the images are not the same"),
        ({"images": {}}, "the images are not known to be the same"),
        ({"count": 39}, "the samples are not the same"),
        ({"nan": True}, "some values are not finite"),
        ({"keep": False}, "no values of single samples were kept"),
    ],
)
def test_other_samples_are_not_paired_and_that_is_said(change, reason):
    control, se = photographs(count=40)
    se = se[: change.pop("count", 40)]
    other = measured("psnr", "b", se, **{name: value for name, value in change.items() if name != "nan"})
    if "nan" in change:
        other.kept.metrics["psnr"].values[3] = np.nan
    gain = between(measured("psnr", "a", control), other)
    assert (gain.paired, gain.method) == (False, f"unpaired, since {reason}")


def test_equal_differences_have_a_point_for_an_interval():
    """Every sample gains the same: no warning of a degenerate bootstrap; no gain at all is not significant."""
    control, _ = photographs(count=64)
    gain = between(measured("psnr", "a", control), measured("psnr", "b", control + 0.5))
    assert (gain.low, gain.high, gain.significant) == (pytest.approx(0.5), pytest.approx(0.5), True)
    equal = between(measured("psnr", "a", control), measured("psnr", "b", control))
    assert (equal.mean, equal.significant, equal.improves(True)) == (0, False, None)


def run_of_the_issue():
    """PSNR falls by more than chance, the share falls by a fifth, samples do not differ."""
    generator = np.random.default_rng(5)
    control, se = photographs()
    share = generator.uniform(0.1, 0.2, 256)
    distance = generator.normal(150, 20, 256)

    def stage(folder, psnr, hfs, samples):
        return joined(
            measured("psnr", folder, psnr),
            measured("high_frequency_share", folder, hfs, direction=False, unit=""),
            measured("fdd", folder, samples, direction=False, unit=""),
        )

    return comparison(
        {
            "control": stage("a", control, share, distance),
            "se": stage("b", se, 0.78 * share, distance + generator.normal(0.1, 5, 256)),
        }
    )


def test_the_verdict_says_what_the_intervals_allow():
    compared = run_of_the_issue()
    columns = metric_columns(compared)
    (sentence,) = verdicts(compared, columns)
    assert sentence.startswith("se lowers HF share by 22")
    assert " % [2" in sentence
    assert f"at {MINUS}0.1" in sentence
    assert " dB [" in sentence
    assert "PSNR; samples: no significant difference in FDD (" in sentence
    assert "not significant" not in sentence
    assert how_compared(columns) == "paired bootstrap over 256 samples"


def test_what_is_not_significant_has_no_colour():
    """Cells, key results and the scorecard: neither green nor red, nor a box around the best."""
    compared = run_of_the_issue()
    columns = {column.metric: column for column in metric_columns(compared)}
    improves = {name: column.cells[1].improves for name, column in columns.items()}
    assert improves == {"psnr": False, "high_frequency_share": True, "fdd": None}
    assert [cell.leads for cell in columns["psnr"].cells] == [True, False]
    assert [cell.leads for cell in columns["high_frequency_share"].cells] == [False, True]
    assert not any(cell.leads for cell in columns["fdd"].cells)
    keys = {key.column.metric: key.improves for key in key_results(compared, list(columns.values()))}
    assert keys["high_frequency_share"] is True
    assert keys["fdd"] is None
    verdicts_of = {key.column.metric: key.verdict for key in key_results(compared, list(columns.values()))}
    assert "not significant" in verdicts_of["fdd"]
    assert "not significant" not in verdicts_of["psnr"] + verdicts_of["high_frequency_share"]
    cells = {
        group.label: {name: column.cells[place] for name, column in columns.items()}
        for place, group in enumerate(compared.groups)
    }
    scores = {
        variant.label: {
            name: {"value": metric.value, "higher_is_better": metric.higher_is_better, "unit": metric.unit}
            for name, metric in variant.stages["measure"].metrics.items()
        }
        for variant in compared.variants
    }
    console = Console(force_terminal=True, color_system="standard", width=160, record=True)
    with console.capture() as capture:
        console.print(scorecard_table(scores, cells))
    text = capture.get()
    assert "\x1b[32m" in text  # green: the share
    assert "\x1b[31m" in text  # red: PSNR
    fdd = columns["fdd"].cells[1]
    (line,) = [line for line in text.splitlines() if fdd.interval in line]
    assert "\x1b[32m" not in line
    assert "\x1b[31m" not in line


def test_values_are_kept_as_they_are(tmp_path):
    """A round trip; a run without the file has none; a damaged file is refused."""
    values = SampleValues.from_samples([5, 1, 3], [0.1, 0.2, 0.3])
    groups = SampleValues.without_groups([0, 1], [1.0, 2.0], [3, 4])
    write_values(
        tmp_path / "values.npz", KeptValues(metrics={"psnr": values, "fid": groups}, images={1: 2**64 - 1, 0: 3})
    )
    kept = read_values(tmp_path / "values.npz")
    assert kept.metrics["psnr"].places.tolist() == [1, 3, 5]
    assert kept.metrics["psnr"].values.tolist() == [0.2, 0.3, 0.1]
    assert kept.metrics["psnr"].counts is None
    assert kept.metrics["fid"].counts.tolist() == [3, 4]
    assert kept.images == {1: 2**64 - 1, 0: 3}
    assert not read_values(tmp_path / "none.npz").metrics
    (tmp_path / "values.npz").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"values\.npz' cannot be read"):
        read_values(tmp_path / "values.npz")
    with pytest.raises(DataError, match="3 values for 2 places"):
        SampleValues(places=np.arange(2), values=np.arange(3.0))
