"""Exported models, decoded in a fresh process that has only diffusers."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from tiny_runs import run_here, write_spec

from diffusability.core.cli.export_command import export_model
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.models.exporting.export import export
from diffusability.core.models.saved_models import load_autoencoder
from diffusability.core.run.selection import select_model

pytestmark = pytest.mark.integration

AUTOENCODERS = {
    "flux": {"kind": "flux", "width": 8},
    "taesd": {"kind": "taesd", "width": 8},
    "compact": {"kind": "compact-kl", "width": 16, "blocks": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a variant for each autoencoder: two steps of training, an evaluation, an encoding."""
    folder = tmp_path_factory.mktemp("export")
    trained = {"kind": "stage", "stage": "finetune"}
    content = {
        "name": "tiny",
        "data": {"kind": "sample-photos", "resolution": 32},
        "engine": {"precision": "fp32"},
        "stages": {
            "finetune": {
                "kind": "train",
                "objective": {"kind": "reconstruction", "autoencoder": AUTOENCODERS["flux"]},
                "batch_size": 2,
                "steps": 2,
                "preview": None,
            },
            "measure": {
                "kind": "evaluate",
                "autoencoder": trained,
                "evaluators": [{"kind": "psnr", "num_samples": 2}],
            },
            "encode": {"kind": "encode", "autoencoder": trained, "num_samples": 4, "flips": False},
        },
        "variants": {
            name: {"stages.finetune.objective": {"kind": "reconstruction", "autoencoder": autoencoder}}
            for name, autoencoder in AUTOENCODERS.items()
        },
    }
    return run_here(write_spec(folder, content), folder / "runs")[1].root


DECODE = """
import sys, torch, diffusers
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
torch.set_num_threads(int(sys.argv[1]))
for name in sys.argv[2:]:
    folder, _, class_name = name.partition("=")
    model = getattr(diffusers, class_name).from_pretrained(folder, low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        decoded = model.decode(load_file(folder + "-latents")["latents"]).sample
    save_file({"decoded": decoded}, folder + "-decoded")
assert not any(name.startswith("diffusability") for name in sys.modules)
"""


def test_exports_decode_identically_in_diffusers_alone(run, tmp_path):
    """What a fresh process decodes, in float32, against our own decoding, bit for bit: FluxAE and TAESD."""
    expected, arguments = {}, []
    for variant, class_name in (("flux", "AutoencoderKL"), ("taesd", "AutoencoderTiny")):
        model = select_model(run, variant=variant)
        export(model, tmp_path / variant)
        autoencoder = load_autoencoder(model.model).eval()
        latents = torch.randn(1, autoencoder.info.latent_channels, 4, 4)
        save_file({"latents": latents}, tmp_path / f"{variant}-latents")
        with torch.no_grad():
            expected[variant] = autoencoder.decode(latents)
        arguments.append(f"{tmp_path / variant}={class_name}")
    command = [sys.executable, "-c", DECODE, str(torch.get_num_threads()), *arguments]
    subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=tmp_path)
    for variant, images in expected.items():
        assert torch.equal(load_file(tmp_path / f"{variant}-decoded")["decoded"], images)


def test_the_card_tells_recipe_metrics_and_scaling(run, tmp_path):
    """The card of the fine-tuned FluxAE against the run's own files."""
    model = select_model(run, stage="finetune", variant="flux")
    export(model, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    body = text.split("---\n", 2)[2]
    metadata = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (metadata.library_name, metadata.tags) == ("diffusers", ["autoencoder", "vae", "diffusability"])
    assert "AutoencoderKL.from_pretrained" in body
    assert "images, f8, 16 latent channels" in body
    results = json.loads((run / "results.json").read_text())["variants"]["flux"]["measure"]["psnr"]
    assert f"| measure | psnr | {results['value']:.6g} dB | 2 |" in body
    (psnr,) = [result for result in metadata.eval_results if result.metric_type == "psnr"]
    assert (psnr.metric_value, psnr.metric_name, psnr.task_type) == (results["value"], "PSNR", "reconstruction")
    assert (psnr.dataset_type, psnr.dataset_split) == (
        yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])["stage"]["data"]["kind"],
        "validation",
    )
    assert yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])["digest"].startswith(model.directory.name[-8:])
    scaling = json.loads((tmp_path / "out" / "latent_normalizer.json").read_text())
    digest = model.directory.name[-8:]
    (index,) = [
        json.loads((path / "latents" / "cache.json").read_text())
        for path in (run / "stages").glob("encode-*")
        if yaml.safe_load((path / "resolved.yaml").read_text())["inputs"]["finetune"].startswith(digest)
    ]
    assert (scaling["mean"], scaling["std"]) == (index["mean"], index["std"])
    assert "measured (stage encode)" in body


def test_own_kinds_say_that_nobody_else_reads_them(run, tmp_path):
    """compact-kl: the kind saved reads the folder, and the card says so."""
    export_model(run, tmp_path / "out", None, "compact")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: diffusability" in text
    assert "other libraries have none that reads it" in text
    load_autoencoder(tmp_path / "out")


def test_what_is_meant_must_be_clear(run, tmp_path):
    """Several models, unknown names, a folder that is not a run, one that is not empty, an unknown format."""
    with pytest.raises(SpecError, match=r"several trained models; say which: --stage finetune --variant flux"):
        select_model(run)
    with pytest.raises(SpecError, match="no variant 'fluks' with a trained model; did you mean 'flux'"):
        select_model(run, variant="fluks")
    with pytest.raises(SpecError, match="no stage 'measure' with a trained model; stages: finetune"):
        select_model(run, stage="measure")
    with pytest.raises(SpecError, match="is not a run"):
        select_model(tmp_path)
    model = select_model(run, variant="compact")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(SpecError, match="not empty; expected a new folder"):
        export(model, tmp_path / "full")
    other = type(model)(run=run, variant="flux", stage="finetune", directory=model.directory, format="other")
    with pytest.raises(CheckpointError, match="no export of models of format 'other'"):
        export(other, tmp_path / "new")
    assert not (tmp_path / "new").exists()
