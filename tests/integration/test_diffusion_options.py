"""Whole runs with the options of objectives, samplers and evaluators of denoisers."""

import json
import math

import pytest
from tiny_runs import metrics, run_here, tiny_spec, write_spec

from diffusability.core.models.saved_models import load_diffusion_model

DENOISER = {"kind": "dit", "size": "Ti/4"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A self-conditioned DDPM with learned variance under ZeRO 3, guided by a weaker flow model."""
    spec = tiny_spec()
    stages = spec["stages"]
    del stages["measure"], stages["dit"]["evaluate"]
    stages["pretrain"] |= {"regularizers": [], "steps": 2, "preview": None}
    stages["weak"] = {
        **stages["dit"],
        "objective": {"kind": "flow-matching", "denoiser": DENOISER, "prediction": "data", "loss_on": "velocity"},
        "steps": 2,
        "preview": None,
    }
    stages["dit"] |= {
        "objective": {"kind": "ddpm", "denoiser": {**DENOISER, "learn_sigma": True, "self_conditioning": True}},
        "engine": {"precision": "bf16", "zero_stage": 3},
        "preview": {"every": 6, "num_images": 2, "sampler": {"kind": "ddim", "steps": 3, "eta": 1.0}},
    }
    stages["generate"] |= {
        "sampler": {
            "kind": "dpm-solver++",
            "steps": 3,
            "guidance_scale": 1.5,
            "guide": {"kind": "stage", "stage": "weak"},
            "guidance_interval": [0.1, 0.9],
        },
        "evaluators": [
            {"kind": "sliced-wasserstein", "num_samples": 8},
            {"kind": "denoising-spectrum", "num_samples": 8, "times": [0.3, 0.7]},
            {"kind": "error-accumulation", "num_samples": 8, "steps": 2},
        ],
    }
    stages["generate"] = stages.pop("generate")  # after the stage that it uses
    folder = tmp_path_factory.mktemp("options")
    plan, run_folder = run_here(write_spec(folder, spec), folder / "runs")
    return plan.stages["default"], run_folder


def test_a_ddpm_trains_with_learned_variance_and_self_conditioning(finished):
    """Losses in the log, and what the saved model says of itself."""
    stages, folder = finished
    lines = metrics(folder.root, "dit")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert line["loss"] == pytest.approx(line["noise"] + line["variance"], rel=1e-5)
        assert 0.5 < line["noise"] < 2
    model = load_diffusion_model(folder.stage(stages["dit"]) / "model")
    assert model.parametrisation.betas is not None
    assert model.denoiser.learn_sigma
    assert model.denoiser.self_conditioning
    weak = load_diffusion_model(folder.stage(stages["weak"]) / "model")
    assert weak.parametrisation.prediction == "data"
    assert (folder.stage(stages["dit"]) / "samples" / "step-000006.png").is_file()


def test_results_and_figures_of_a_guided_ddpm(finished):
    """Metrics that are there, finite, and recorded with the sampler and its guide; figures by name."""
    stages, folder = finished
    results = folder.results_of(stages["generate"])
    recorded = results["sliced_wasserstein"]["spec"]["sampler"]
    assert (recorded["guidance_scale"], recorded["guide"]["stage"]) == (1.5, "weak")
    assert math.isfinite(results["denoising_error"]["value"])
    assert results["cumulative_error"]["unit"] == "nats"
    assert len(results["modular_error_curve"]["curve"]["y"]) == 2
    figures = {path.name for path in (folder.stage(stages["generate"]) / "figures").glob("*.png")}
    assert figures == {"denoising-spectrum.png", "denoising-spectrum-channels.png", "error-accumulation.png"}
    text = (folder.root / "report.md").read_text()
    assert "denoising" in text.lower()
    assert json.loads((folder.root / "results.json").read_text())["variants"]["default"]["generate"]


def test_a_saved_denoiser_is_evaluated_in_another_run(finished, tmp_path):
    """A run whose denoiser is the folder of another run's model: it finds the decoder, and records its own sampler."""
    stages, folder = finished
    model = folder.stage(stages["weak"]) / "model"
    spec = tiny_spec()
    generate = spec["stages"]["generate"] | {"denoiser": {"kind": "saved", "path": str(model)}}
    generate |= {
        "sampler": {"kind": "ddim", "steps": 2},
        "evaluators": [{"kind": "sliced-wasserstein", "num_samples": 4}],
    }
    spec["stages"] = {"generate": generate}
    plan, other = run_here(write_spec(tmp_path, spec), tmp_path / "runs")
    results = other.results_of(plan.stages["default"]["generate"])
    assert results["sliced_wasserstein"]["spec"]["sampler"]["kind"] == "ddim"
    assert results["sliced_wasserstein"]["value"] > 0
