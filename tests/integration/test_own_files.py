"""An autoencoder, a regularizer and an evaluator from files: trained, evaluated, exported, and loaded elsewhere."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from quickstart_run import dfz_here
from tiny_runs import run_here, write_spec

from diffusability.core.errors import CheckpointError, DiffusabilityError
from diffusability.core.models.saved_models import load_autoencoder
from diffusability.core.planning.plan import load_plan
from diffusability.core.run.changed_files import changes
from diffusability.core.run.folder_writer import RunFolder

pytestmark = pytest.mark.integration

MODEL = """
from torch import nn
from layers import WIDTH


class Tiny(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, WIDTH, 4, stride=4), nn.SiLU(), nn.Conv2d(WIDTH, 2 * channels, 1))
        self.decoder = nn.Sequential(nn.Conv2d(channels, WIDTH, 1), nn.SiLU(), nn.ConvTranspose2d(WIDTH, 3, 4, 4))

    def encode(self, images):
        mean, logvar = self.encoder(images).chunk(2, dim=1)
        return mean, logvar - 4

    def decode(self, latents):
        return self.decoder(latents)


def build(channels=4):
    return Tiny(channels)
"""
TERM = """
from diffusability.core import Regularizer


class Size(Regularizer):
    needs = frozenset({"latents"})

    def forward(self, output, objective):
        return output.latents.square().mean()
"""
METRIC = """
from diffusability.core import EvalResult, Evaluator


class LatentSize(Evaluator):
    needs = frozenset({"latents"})

    def __init__(self):
        self.values = []

    def update(self, batch):
        self.values += batch.latents.square().flatten(1).mean(1).tolist()

    def compute(self):
        mean = sum(self.values) / len(self.values)
        return [EvalResult(metric="latent_size", value=mean, num_samples=len(self.values))]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    files = {"model.py": MODEL, "layers.py": "WIDTH = 16\n", "term.py": TERM, "metric.py": METRIC}
    for name, content in files.items():
        (folder / name).write_text(content)
    objective = {"kind": "reconstruction", "autoencoder": {"kind": "python", "target": f"{folder}/model.py:build"}}
    term = {"kind": "python", "target": f"{folder}/term.py:Size", "weight": 0.1}
    train = {"kind": "train", "steps": 3, "batch_size": 4, "log_every": 1, "checkpoint": {"every": 3}}
    metric = {"kind": "python", "target": f"{folder}/metric.py:LatentSize", "num_samples": 8}
    content = {
        "name": "own",
        "data": {"kind": "sample-photos", "resolution": 32},
        "stages": {
            "finetune": {**train, "objective": objective, "regularizers": [term], "preview": None},
            "measure": {
                "kind": "evaluate",
                "autoencoder": {"kind": "stage", "stage": "finetune"},
                "evaluators": [metric, {"kind": "psnr", "num_samples": 8}],
            },
        },
    }
    path = write_spec(folder, content)
    return path, *run_here(path, folder / "runs")


def stage_of(finished, name):
    _, plan, runs = finished
    return next(runs.stage(stage) for stage in plan.order if stage.name == name)


def test_the_term_and_the_metric_are_computed(finished):
    """The name of the term in the log, and of the metric among the results."""
    lines = [json.loads(line) for line in (stage_of(finished, "finetune") / "metrics.jsonl").read_text().splitlines()]
    assert "Size" in json.dumps(lines)
    results = (stage_of(finished, "measure") / "results.json").read_text()
    assert "latent_size" in results
    assert "psnr" in results


def test_an_edited_file_makes_its_stage_anew(finished):
    """Of the module beside the model's file: the stage that trains it, and the one that uses that."""
    path, plan, _ = finished
    layers = path.parent / "layers.py"
    before = layers.read_text()
    layers.write_text("WIDTH = 16  # as before\n")
    try:
        reasons = changes(load_plan(path).order, RunFolder(path.parent / "runs" / plan.name))
    finally:
        layers.write_text(before)
    assert len(reasons) == 2
    assert "finetune" in " ".join(reasons)
    assert changes(load_plan(path).order, RunFolder(path.parent / "runs" / plan.name)) == {}
    (path.parent / "term.py").write_text(TERM + "\n")
    assert len(changes(load_plan(path).order, RunFolder(path.parent / "runs" / plan.name))) == 2
    (path.parent / "term.py").write_text(TERM)


def test_checking_lists_the_code_that_runs(finished):
    """Each file once, with its stages, and the module that is imported with it."""
    path, _, _ = finished
    output = dfz_here("check", path)
    for name in ("model.py", "layers.py", "term.py", "metric.py"):
        assert f"code that runs: {path.parent / name} (" in output


def test_exported_and_loaded_in_another_folder_without_the_originals(finished, tmp_path, monkeypatch):
    """The export of the run, moved; the sources hidden; scored from another working directory, once trusted."""
    path, _, _ = finished
    dfz_here("export", path.parent / "runs" / "own", "--to", tmp_path / "exported", "--trust-code")
    expected = load_autoencoder(stage_of(finished, "finetune") / "model", trust_code=True).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        wanted = expected.decode(expected.encode(images).mode())
    shutil.move(tmp_path / "exported", tmp_path / "moved")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in ("model.py", "layers.py"):
        shutil.move(path.parent / name, hidden / name)
    try:
        with pytest.raises(CheckpointError, match=r"carries code, which would run: .*layers\.py.*trust_code: true"):
            load_autoencoder(tmp_path / "moved")
        again = load_autoencoder(tmp_path / "moved", trust_code=True).eval()
        with torch.no_grad():
            torch.testing.assert_close(again.decode(again.encode(images).mode()), wanted, rtol=0, atol=0)
        (tmp_path / "cwd").mkdir()
        monkeypatch.chdir(tmp_path / "cwd")
        arguments = (
            "score",
            "../moved",
            "--data",
            "sample-photos",
            "--resolution",
            "32",
            "--num",
            "8",
            "--json",
            "card.json",
        )
        with pytest.raises(DiffusabilityError, match="carries code"):
            dfz_here(*arguments)
        dfz_here(*arguments, "--trust-code")
        assert "psnr" in Path("card.json").read_text()
    finally:
        for name in ("model.py", "layers.py"):
            shutil.move(hidden / name, path.parent / name)
