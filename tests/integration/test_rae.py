"""The micro recipe of a representation autoencoder, shortened: its decoder at ZeRO 2, the denoiser at 3."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from quickstart_run import dfz_here
from safetensors.torch import load_file
from tiny_runs import run_here

from diffusability.core.cli.check_command import remarks_on
from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.data.latents.latents import Latents
from diffusability.core.models.saved_models import load_autoencoder, load_diffusion_model
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.planning.plan import load_plan
from diffusability.core.scoring.named_autoencoders import check_named, named_autoencoders

pytestmark = pytest.mark.integration

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "micro" / "rae.yaml"
SHORT = [
    "data.resolution=32",
    "stages.decoder.objective.autoencoder.decoder.depth=1",
    "stages.decoder.objective.autoencoder.decoder.width=64",
    "stages.decoder.steps=6",
    "stages.decoder.batch_size=4",
    "stages.decoder.adversarial.start_step=3",
    "stages.decoder.log_every=1",
    "stages.decoder.preview.every=6",
    "stages.decoder.checkpoint.every=3",
    "stages.encode.num_samples=16",
    "stages.dit.objective.denoiser.num_blocks=1",
    "stages.dit.objective.denoiser.head.width=128",
    "stages.dit.objective.denoiser.head.depth=1",
    "stages.dit.steps=4",
    "stages.dit.batch_size=4",
    "stages.dit.preview.every=4",
    "stages.generate.sampler.steps=2",
    "stages.generate.evaluators.0.num_samples=8",
    "stages.score.evaluators.0.num_samples=8",
    "stages.score.evaluators.1.num_samples=8",
    "engine.zero_stage=2",
    "stages.dit.engine={zero_stage: 3, activation_checkpointing: true}",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rae")
    return run_here(RECIPE, folder / "runs", *SHORT)


def stage_of(finished, name):
    plan, runs = finished
    return next(runs.stage(stage) for stage in plan.order if stage.name == name)


def test_the_encoder_is_as_it_was_and_the_decoder_trained(finished):
    """Saved weights against those that the stage started from, built again from its seed."""
    plan, _ = finished
    stage = next(stage for stage in plan.order if stage.name == "decoder")
    trained = load_autoencoder(stage_of(finished, "decoder") / "model")
    torch.manual_seed(derived_seed(stage.seed, "initialisation"))
    start = build_autoencoder(stage.spec.objective.autoencoder)
    moved = {name for name, value in trained.named_parameters() if not torch.equal(value, start.get_parameter(name))}
    assert moved
    assert not [name for name in moved if trained.part_of(name) == "encoder"]
    unmoved = {name for name, _ in trained.decoder.named_parameters(prefix="decoder")} - moved
    assert not unmoved
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    latents = trained.eval().encode(images).mode()
    assert latents.shape == (2, 64, 4, 4)
    torch.testing.assert_close(latents.mean(1), torch.zeros(2, 4, 4), atol=1e-5, rtol=0)


def test_latents_are_scaled_by_place_and_sampled_so(finished):
    """The cache's statistics, those that the denoiser keeps, and its head."""
    data = Latents(stage_of(finished, "encode") / "latents")
    model = load_diffusion_model(stage_of(finished, "dit") / "model")
    assert data.normalizer.mean.shape == (64, 4, 4)
    torch.testing.assert_close(model.normalizer.mean, data.normalizer.mean, rtol=0, atol=0)
    torch.testing.assert_close(model.normalizer.std, data.normalizer.std, rtol=0, atol=0)
    assert model.denoiser.architecture.head.width == 128
    results = json.loads((stage_of(finished, "generate") / "results.json").read_text())
    assert "sliced_wasserstein" in json.dumps(results)


def test_the_shift_is_said_before(finished):
    """What ``dfz check`` prints of the stage."""
    plan = load_plan(RECIPE, SHORT)
    remarks = {stage.name: remarks_on(stage) for stage in plan.order}
    assert remarks["dit"] == ["time_shift auto is 0.5, sqrt(64 x 4 x 4 / 4096)"]
    assert "sampler 'euler': time_shift auto is 0.5, sqrt(64 x 4 x 4 / 4096)" in remarks["generate"]


def test_the_trained_one_is_found_by_score(finished, tmp_path):
    """By the folder of the run, from another place, and by its options on the command line."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(stage_of(finished, "decoder") / "model", moved)
    (named,) = named_autoencoders([str(moved)])
    check_named(named)
    (options,) = named_autoencoders(
        ["rae:encoder={model: vit_tiny_patch16_224, pretrained: random},decoder={size: Ti}"]
    )
    check_named(options)
    assert options.spec["decoder"] == {"size": "Ti"}


def test_exports_carry_the_statistics_of_each_place(finished, tmp_path):
    """Beside those of each channel; and a denoiser that is exported with its autoencoder is sampled from."""
    _, runs = finished
    dfz_here("export", runs.root, "--stage", "decoder", "--to", tmp_path / "rae")
    exported = load_file(tmp_path / "rae" / "latent_normalizer.safetensors")
    normalizer = Latents(stage_of(finished, "encode") / "latents").normalizer
    torch.testing.assert_close(exported["mean"], normalizer.mean, rtol=0, atol=0)
    coarse = json.loads((tmp_path / "rae" / "latent_normalizer.json").read_text())
    torch.testing.assert_close(torch.tensor(coarse["std"]), normalizer.per_channel().std)
    dfz_here("export", runs.root, "--stage", "dit", "--to", tmp_path / "dit")
    dfz_here("sample", tmp_path / "dit", "--num", "2", "--steps", "2", "--to", tmp_path / "samples")
    assert len(list((tmp_path / "samples").glob("0*.png"))) == 2
