"""A SiT in its authors' file, evaluated and sampled from without a training step."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from quickstart_run import dfz_here
from tiny_runs import run_here, write_spec

from diffusability.core.errors import SpecError
from diffusability.core.sampling.load_generator import load_generator
from diffusability.models.denoisers.positions import grid_positions

pytestmark = pytest.mark.integration


def sit(path: Path) -> None:
    """A file as SiT's code writes it, of the size Ti/2 on 4 x 8 x 8 latents and 3 classes, with random weights."""
    generator = torch.Generator().manual_seed(0)
    weights = {"pos_embed": grid_positions((4, 4), 192)[None]}

    def linear(name, outputs, inputs):
        weights[f"{name}.weight"] = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
        weights[f"{name}.bias"] = torch.zeros(outputs)

    linear("x_embedder.proj", 192, 16)
    weights["x_embedder.proj.weight"] = weights["x_embedder.proj.weight"].view(192, 4, 2, 2)
    linear("t_embedder.mlp.0", 192, 256)
    linear("t_embedder.mlp.2", 192, 192)
    weights["y_embedder.embedding_table.weight"] = torch.randn(4, 192, generator=generator)
    for index in range(6):
        for name, outputs, inputs in (
            ("attn.qkv", 576, 192),
            ("attn.proj", 192, 192),
            ("mlp.fc1", 768, 192),
            ("mlp.fc2", 192, 768),
            ("adaLN_modulation.1", 1152, 192),
        ):
            linear(f"blocks.{index}.{name}", outputs, inputs)
    linear("final_layer.linear", 32, 192)
    linear("final_layer.adaLN_modulation.1", 384, 192)
    torch.save({"model": weights, "ema": weights}, path)


@pytest.fixture
def denoiser(tmp_path):
    sit(tmp_path / "sit.pt")
    content = {"kind": "published", "family": "sit", "path": str(tmp_path / "sit.pt"), "size": "Ti/2", "num_classes": 3}
    return {**content, "autoencoder": {"kind": "taesd", "width": 8}}


def test_it_is_evaluated(denoiser, tmp_path):
    """The stage samples and compares; its samples are those of the generator, seeds and all."""
    stage = {
        "kind": "evaluate",
        "denoiser": denoiser,
        "sampler": {"kind": "euler", "steps": 2, "time_shift": "auto"},
        "evaluators": [{"kind": "sliced-wasserstein", "num_samples": 4}],
        "num_preview_images": 0,
    }
    content = {"name": "sit", "data": {"kind": "sample-photos", "resolution": 64}, "stages": {"generate": stage}}
    plan, runs = run_here(write_spec(tmp_path, content), tmp_path / "runs")
    (only,) = plan.order
    assert "sliced_wasserstein" in json.dumps(json.loads((runs.stage(only) / "results.json").read_text()))


def test_it_is_sampled_from(denoiser, tmp_path):
    """``dfz sample`` of a YAML file with the denoiser alone; and what such a file may not be."""
    path = tmp_path / "sit.yaml"
    path.write_text(yaml.safe_dump(denoiser))
    dfz_here("sample", path, "--num", "3", "--steps", "2", "--class", "1", "--to", tmp_path / "samples")
    assert len(list((tmp_path / "samples").glob("*.png"))) >= 3
    images = load_generator(path, sampler={"kind": "euler", "steps": 2}).at(range(2), labels=1).images
    assert images.shape == (2, 3, 64, 64)
    assert images.isfinite().all()
    path.write_text(yaml.safe_dump({"kind": "dit"}))
    with pytest.raises(SpecError, match="'dit' is not a trained one; expected kind 'stage', 'saved' or 'published'"):
        load_generator(path)
    path.write_text(yaml.safe_dump({**denoiser, "family": "dot"}))
    with pytest.raises(SpecError, match="family"):
        load_generator(path)
