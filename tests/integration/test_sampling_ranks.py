"""Sampling with real processes: equal samples on one and two ranks, and a generation that goes on."""

import json
import shutil

import pytest
from tiny_runs import dfz, run_here, tiny_spec, write_spec

from diffusability.core.planning.plan import load_plan


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run up to its denoiser, with stages that sample it: one with noise on the way, in batches of 3."""
    spec = tiny_spec()
    stages = spec["stages"]
    del stages["measure"], stages["dit"]["evaluate"]
    stages["pretrain"] |= {"steps": 2, "regularizers": [], "preview": None}
    stages["dit"] |= {"steps": 2, "preview": None}
    stages["generate"] |= {"sampler": {"kind": "euler-maruyama", "steps": 3}, "batch_size": 3}
    folder = tmp_path_factory.mktemp("sampling")
    path = write_spec(folder, spec)
    run_here(path, folder / "one", until="dit")
    return path, folder


def test_two_ranks_make_the_samples_of_one(trained):
    """The grid of samples and the metric of one process against those of two ranks."""
    path, folder = trained
    shutil.copytree(folder / "one", folder / "two")
    run_here(path, folder / "one")
    dfz("run", path, "--runs", folder / "two", "--nproc", 2)
    (single,), (double,) = (list((folder / name).glob("tiny/stages/generate-*")) for name in ("one", "two"))
    assert json.loads((double / "done.json").read_text())["num_ranks"] == 2
    assert (single / "samples" / "samples.png").read_bytes() == (double / "samples" / "samples.png").read_bytes()
    values = [
        json.loads((place / "results.json").read_text())["sliced_wasserstein"]["value"] for place in (single, double)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert not (single / "sampled-latents").exists()


def test_results_record_sampler_and_guidance(trained):
    """What results say of how samples were made against the spec."""
    path, folder = trained
    _, run_folder = run_here(path, folder / "one")
    stage = load_plan(path).stages["default"]["generate"]
    recorded = run_folder.results_of(stage)["sliced_wasserstein"]["spec"]["sampler"]
    assert (recorded["kind"], recorded["steps"], recorded["guidance_scale"]) == ("euler-maruyama", 3, 1.0)
