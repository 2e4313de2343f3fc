"""A run with two seeds through the real engine."""

import json

import numpy as np
import pytest
import yaml
from tiny_runs import dfz, tiny_spec, write_spec

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two variants of two seeds on one autoencoder, which is trained with a seed of its own."""
    folder = tmp_path_factory.mktemp("seeds")
    content = tiny_spec() | {"seeds": [0, 1], "variants": {"vanilla": {}, "se": {"stages.dit.optimizer.lr": 2.0e-3}}}
    for stage in ("pretrain", "measure", "encode"):
        content["stages"][stage]["seed"] = 0
    content["table"] = {
        "columns": [{"stage": "measure", "metric": "psnr"}, {"stage": "generate", "metric": "sliced_wasserstein"}],
        "rows": {"vanilla": "DiT", "se": "DiT, fast"},
    }
    spec = write_spec(folder, content)
    dfz("run", spec, "--runs", folder)
    return spec, folder / "tiny"


def test_what_has_a_seed_of_its_own_runs_once(finished):
    """One folder each for the autoencoder, its measures and its latents, four for denoisers."""
    _, run = finished
    names = sorted(path.name.rpartition("-")[0] for path in (run / "stages").iterdir())
    assert names == sorted(["pretrain", "measure", "encode", *["dit"] * 4, *["generate"] * 4])


def test_the_run_records_variant_and_seed(finished):
    """What reports group by; and seeds do change what is generated."""
    _, run = finished
    record = json.loads((run / "run.json").read_text())
    assert record["variant_seeds"] == {
        f"{base}-seed{seed}": {"base": base, "seed": seed} for seed in (0, 1) for base in ("vanilla", "se")
    }
    results = json.loads((run / "results.json").read_text())["variants"]
    assert list(results) == list(record["variant_seeds"])
    values = {stages["generate"]["sliced_wasserstein"]["value"] for stages in results.values()}
    assert len(values) == 4
    assert len({stages["measure"]["psnr"]["value"] for stages in results.values()}) == 1


def test_a_variant_of_all_seeds_is_checked_as_done(finished):
    """By the command line, from the name in the spec."""
    spec, run = finished
    text = dfz("check", spec, "--variant", "se", "--runs", run.parent, COLUMNS="200").stdout
    assert "7 stages for 1 variant, 2 with their seeds, on 1 rank(s)" in text
    assert "to do" not in text


def test_the_table_of_the_run_is_over_its_seeds(finished):
    """Against results.json: mean and n-1 deviation of the two seeds; the shared autoencoder is one measurement."""
    _, run = finished
    results = json.loads((run / "results.json").read_text())["variants"]
    values = [results[f"se-seed{seed}"]["generate"]["sliced_wasserstein"]["value"] for seed in (0, 1)]
    (line,) = [line for line in (run / "report.md").read_text().splitlines() if line.startswith("| DiT, fast |")][:1]
    psnr, distance = line.split("|")[2:4]
    assert "±" not in psnr
    mean, std = (float(number) for number in distance.replace("*", "").split("±"))
    assert mean == pytest.approx(np.mean(values), rel=1e-3)
    assert std == pytest.approx(np.std(values, ddof=1), rel=0.1)
    assert (run / "table.tex").is_file()


def test_a_new_table_runs_nothing(finished):
    """The same command with another caption: every stage done before, the report with the new one."""
    spec, run = finished
    content = yaml.safe_load(spec.read_text())
    content["table"]["caption"] = "Later thoughts"
    write_spec(spec.parent, content)
    output = dfz("run", spec, "--runs", run.parent).stdout
    assert output.count("done before") == 11
    assert "Later thoughts" in (run / "report.html").read_text()
