"""Models made of snapshots: what is copied beside the weights."""

import json

import torch
from safetensors.torch import load_file, save_file

from diffusability.core.engine.averages.averaged_models import synthesize_model


def test_a_denoiser_still_finds_its_decoder(tmp_path):
    """The path to the autoencoder is relative to the model's folder: from another folder it must lead to the same
    place. Frozen weights and buffers, which are in no snapshot, stay as they are."""
    stage, decoder = tmp_path / "run" / "stages" / "dit", tmp_path / "run" / "stages" / "pretrain" / "model"
    (stage / "model").mkdir(parents=True)
    (stage / "ema-snapshots").mkdir()
    decoder.mkdir(parents=True)
    config = {"format": "diffusability-denoiser", "autoencoder": {"kind": "saved", "path": "../../pretrain/model"}}
    (stage / "model" / "config.json").write_text(json.dumps(config))
    weights = {"denoiser.proj.weight": torch.zeros(2), "normalizer.mean": torch.ones(3)}
    save_file(weights, stage / "model" / "model.safetensors")
    facts = {"step": 8, "num_updates": 8, "sigma_rel": 0.1}
    snapshot = {"objective.denoiser.proj.weight": torch.tensor([1.0, 2.0])}
    save_file(snapshot, stage / "ema-snapshots" / "step-00000008-a.safetensors", {"facts": json.dumps(facts)})
    to = tmp_path / "elsewhere" / "deep" / "model"
    synthesize_model(stage, 0.1, to)
    written = json.loads((to / "config.json").read_text())
    assert (to / written["autoencoder"]["path"]).resolve() == decoder
    tensors = load_file(to / "model.safetensors")
    torch.testing.assert_close(tensors["denoiser.proj.weight"], torch.tensor([1.0, 2.0]))
    assert torch.equal(tensors["normalizer.mean"], torch.ones(3))
