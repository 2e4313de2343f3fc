import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from diffusability.core.errors import DataError, SpecError
from diffusability.core.report.correlation import correlate, write_correlation
from diffusability.core.report.rank_correlation import rank_correlation, spearman


def run_of(folder, metrics):
    """A run with FID and its kin in a stage ``generate``, the rest in ``score``; maps variants to values by name."""
    folder.mkdir()

    def entry(name, value):
        better = {"viv": False, "fid": False, "lds": True}.get(name)
        return {"value": value, "unit": "", "higher_is_better": better, "num_samples": 8, "spec": {}}

    def stages(values):
        made = {"score": {}, "generate": {}}
        for name, value in values.items():
            made["generate" if "fid" in name else "score"][name] = entry(name, value)
        return made

    variants = {variant: stages(values) for variant, values in metrics.items()}
    (folder / "results.json").write_text(json.dumps({"name": folder.name, "variants": variants}))
    done = {"kind": "evaluate", "status": "done"}
    overview = {variant: {"score": done, "generate": done} for variant in metrics}
    (folder / "run.json").write_text(json.dumps({"name": folder.name, "variants": overview}))
    return folder


VIV = [0.4, 0.6, 0.5, 0.9, 0.8, 1.1]
FID = [20.0, 31.0, 30.0, 44.0, 46.0, 50.0]
LDS = [0.6, 0.5, 0.55, 0.3, 0.31, 0.2]
MADE = {
    f"v{place}": {"viv": viv, "fid": fid, "sfid": 2 * fid, "lds": lds, "rgb_sec": 0.1}
    for place, (viv, fid, lds) in enumerate(zip(VIV, FID, LDS, strict=True))
}


def test_spearman_is_scipys():
    """The coefficient against scipy, with ties; 0 where one side is constant, and scipy's is NaN."""
    generator = np.random.default_rng(0)
    first = np.round(generator.normal(size=30), 1)
    second = first + generator.normal(size=30)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert spearman(np.ones(30), second) == 0
    rows = spearman(np.stack([first, second]), np.stack([second, second]))
    assert rows == pytest.approx([float(spearman(first, second)), 1])


def test_the_interval_holds_95_percent_of_resampled_pairs():
    """The limits against quantiles of scipy's coefficient over pairs that are drawn here, one draw at a time."""
    generator = np.random.default_rng(3)
    first = generator.normal(size=8)
    second = first + generator.normal(size=8)
    draws = np.random.default_rng(0).integers(8, size=(200, 8))
    values = [spearmanr(first[row], second[row]).statistic for row in draws]
    result = rank_correlation(first, second, num_replicates=200)
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_the_interval_covers_the_coefficient_and_narrows_with_pairs():
    generator = np.random.default_rng(1)
    widths = []
    for count in (12, 200):
        first = generator.normal(size=count)
        result = rank_correlation(first, first + generator.normal(size=count))
        assert result.low <= result.value <= result.high
        widths.append(result.high - result.low)
    assert widths[1] < 0.5 * widths[0]


def test_three_pairs_are_too_few():
    with pytest.raises(DataError, match="at least 4 pairs, got 3"):
        rank_correlation(np.arange(3.0), np.arange(3.0))


def test_predictors_are_ranked_with_the_sign_that_theory_expects(tmp_path):
    """Against scipy; a metric that is equal for all is left out, and what is measured on the target's own samples."""
    by_metric = {predictor.metric: predictor for predictor in correlate([run_of(tmp_path / "study", MADE)], "fid")}
    assert by_metric.keys() == {"viv", "lds"}
    assert by_metric["viv"].correlation.value == pytest.approx(spearmanr(VIV, FID).statistic)
    assert (by_metric["viv"].expected, by_metric["lds"].expected) == (1, -1)


def test_files_are_written(tmp_path):
    folder = run_of(tmp_path / "study", MADE)
    write_correlation([folder], "fid")
    assert "| VIV (`viv`) | +0.94 |" in (folder / "correlation.md").read_text()
    assert json.loads((folder / "correlation.json").read_text())["target"] == "fid"
    assert (folder / "figures" / "correlation.png").stat().st_size > 5000


def test_an_unknown_target_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"no variant has the metric 'fidd'; did you mean 'fid'\?"):
        correlate([run_of(tmp_path / "study", MADE)], "fidd")


def test_seeds_of_a_variant_are_one_point(tmp_path):
    """The mean over seeds: the same coefficients as of the variants alone, from as many points."""
    seeded = {
        f"{variant}-seed{seed}": {name: value * (0.99 + 0.02 * seed) for name, value in values.items()}
        for seed in (0, 1)
        for variant, values in MADE.items()
    }
    run = run_of(tmp_path / "seeds", seeded)
    record = json.loads((run / "run.json").read_text())
    record["variant_seeds"] = {
        name: {"base": name.partition("-")[0], "seed": int(name[-1])} for name in record["variants"]
    }
    (run / "run.json").write_text(json.dumps(record))
    alone = {predictor.metric: predictor for predictor in correlate([run_of(tmp_path / "alone", MADE)], "fid")}
    for predictor in correlate([run], "fid"):
        assert predictor.correlation == alone[predictor.metric].correlation
        for (name, *values), (other, *expected) in zip(predictor.pairs, alone[predictor.metric].pairs, strict=True):
            assert name == other
            assert values == pytest.approx(expected)
