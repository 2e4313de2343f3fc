"""A run with two seeds through the real engine."""

import json

import pytest
from tiny_runs import dfz, tiny_spec, write_spec

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two variants of two seeds on one autoencoder, which is trained with a seed of its own."""
    folder = tmp_path_factory.mktemp("seeds")
    content = tiny_spec() | {"seeds": [0, 1], "variants": {"vanilla": {}, "se": {"stages.dit.optimizer.lr": 2.0e-3}}}
    for stage in ("pretrain", "measure", "encode"):
        content["stages"][stage]["seed"] = 0
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
