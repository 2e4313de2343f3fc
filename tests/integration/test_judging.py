"""A small run judged by everything that looks at samples: sweeps, floors, ratios, straightness."""

import json
from copy import deepcopy

import pytest
from tiny_runs import run_here, tiny_spec, write_spec

pytestmark = pytest.mark.integration

FRECHET = {"kind": "frechet", "features": {"kind": "efficientnet-lite0"}, "num_samples": 6, "force": True}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of a run: a variant that sweeps over time shifts, and one with one of its values alone."""
    content = tiny_spec()
    content["stages"]["pretrain"] |= {"steps": 1, "preview": None, "ema": None, "checkpoint": {"every": 9}}
    content["stages"]["dit"] |= {"steps": 1, "preview": None, "evaluate": None, "checkpoint": {"every": 9}}
    del content["stages"]["measure"]
    generate = content["stages"].pop("generate")
    fdr = {"kind": "fdr", "features": [{"kind": "efficientnet-lite0"}], "num_samples": 6, "force": True}
    content["stages"]["swept"] = {
        **deepcopy(generate),
        "sweep": {"time_shift": [1, 3]},
        "evaluators": [
            {"kind": "sliced-wasserstein", "num_samples": 6},
            {**FRECHET, "floor": True},
            fdr | {"held_out": "halves"},
            {"kind": "sampling-path", "num_samples": 6, "steps": 3},
        ],
    }
    content["stages"]["latents"] = {
        "kind": "evaluate",
        "autoencoder": {"kind": "stage", "stage": "pretrain"},
        "evaluators": [
            FRECHET | {"kind": "ifid", "num_samples": 4},
            FRECHET | {"kind": "rfid", "num_samples": 6},
        ],
        "split": "train",
    }
    content["variants"] = {
        "swept": {},
        "alone": {
            "stages.swept.sweep": None,
            "stages.swept.sampler.time_shift": 3,
            "stages.swept.evaluators": [{"kind": "sliced-wasserstein", "num_samples": 6}],
        },
    }
    folder = tmp_path_factory.mktemp("judging")
    _, run = run_here(write_spec(folder, content), folder / "runs")
    written = json.loads((run.root / "results.json").read_text())["variants"]
    kept = list(run.root.glob("stages/swept-*/sampled-latents"))
    return written, kept


def test_a_swept_value_is_what_a_stage_with_it_gives(results):
    """The point at time shift 3 against a variant with this sampler; the other is the stage's own number."""
    written, kept = results
    swept, alone = written["swept"]["swept"], written["alone"]["swept"]
    assert swept["sliced_wasserstein"]["value"] != alone["sliced_wasserstein"]["value"]
    curve = swept["sliced_wasserstein_shift_curve"]["curve"]
    assert curve["x"] == [1, 3]
    assert curve["y"] == pytest.approx(
        [swept["sliced_wasserstein"]["value"], alone["sliced_wasserstein"]["value"]], rel=1e-6
    )
    assert swept["sliced_wasserstein_best_shift"]["value"] == min(curve["y"])
    assert "sampling_straightness_shift_curve" not in swept
    assert kept == []  # removed when the stage is done


def test_a_distance_and_its_floor_are_of_the_same_images(results):
    """The floor against rfid of the same real images; the difference; and what classes and samplers were."""
    swept, latents = results[0]["swept"]["swept"], results[0]["swept"]["latents"]
    name = "frechet_efficientnet_lite0"
    floor = swept[f"{name}_floor"]["value"]
    assert floor == pytest.approx(latents[f"r_{name}"]["value"], rel=1e-6)
    assert swept[f"{name}_above_floor"]["value"] == pytest.approx(swept[name]["value"] - floor)
    assert swept[name]["spec"]["labels"] == "balanced"
    assert latents[f"i_{name}"]["value"] > 0
    assert swept["fdr"]["spec"]["held_out"] == "halves"
    assert 0 < swept["sampling_efficiency"]["value"] <= 1
