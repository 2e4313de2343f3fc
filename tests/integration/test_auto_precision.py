"""Runs at the precision ``auto``, and at bf16 without instructions for it."""

import io
import json

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny_runs import run_here, tiny_spec, write_spec

from diffusability.core.data.latents.latent_cache import read_index
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import DataError
from diffusability.core.numerics import precision
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import load_plan
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.stages import runner


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Runs two stages at a precision on a CPU with or without instructions for bf16; returns what is left behind."""
    made = []
    inherited = TrainTask.__init__

    def noting(self, objective, regularizers, specs, dtype=None):
        made.append(dtype)
        inherited(self, objective, regularizers, specs, dtype)

    monkeypatch.setattr(TrainTask, "__init__", noting)

    def run(word, has):
        for module in (precision, runner):
            monkeypatch.setattr(module, "multiplies_bf16", lambda device: has)
        spec = tiny_spec()
        spec["engine"]["precision"] = word
        spec["stages"] = {name: spec["stages"][name] for name in ("pretrain", "measure")}
        spec["stages"]["pretrain"] |= {"steps": 1, "preview": {"every": 1, "num_images": 2}}
        spec["stages"]["measure"] |= {"precision": "auto", "evaluators": [{"kind": "psnr", "num_samples": 4}]}
        plan = load_plan(write_spec(tmp_path, spec))
        check(plan)
        folder, out = RunFolder(tmp_path / "runs"), io.StringIO()
        stages = list(plan.stages["default"].values())
        with folder.locked():
            runner.run(plan, stages, folder, Console(file=out, width=200), "dfz run")
        trained, measured = (folder.stage(stage) for stage in stages)
        done = json.loads((trained / "done.json").read_text())
        return set(made), done["precision"], json.loads((measured / "results.json").read_text()), out.getvalue()

    return run


@pytest.mark.parametrize("has", [True, False])
def test_auto_computes_in_what_the_device_has(go, has):
    """The dtype of autocast in training, what the record says of it, and what the result says of its own."""
    dtypes, recorded, results, said = go("auto", has)
    assert dtypes == ({torch.bfloat16} if has else {None})
    assert recorded == ("bf16" if has else "fp32")
    assert ('"precision": "bf16"' in json.dumps(results)) == has
    assert "no instructions" not in said


@pytest.mark.parametrize("has", [True, False])
def test_bf16_by_name_is_done_with_a_warning_where_it_is_slow(go, has):
    """Nothing else is done than what was asked for."""
    dtypes, recorded, _, said = go("bf16", has)
    assert dtypes == {torch.bfloat16}
    assert recorded == "bf16"
    assert ("precision 'bf16': this CPU has no instructions for bf16" in said) == (not has)


def test_encoding_computes_in_bf16_where_the_device_has_it(tmp_path, monkeypatch):
    """Latents a percent off those of float32, the precision in the cache, the record and the identity; a cache that one
    kind of device began is not gone on with by another, unless its precision is given by name."""
    spec = tiny_spec()
    spec["stages"] = {name: spec["stages"][name] for name in ("pretrain", "encode")}
    spec["stages"]["pretrain"] |= {"steps": 1, "preview": None}
    spec["stages"]["encode"] |= {"num_samples": 16, "shard_size": 8, "precision": "auto"}
    path = write_spec(tmp_path, spec)

    def encoded(has, *overrides):
        monkeypatch.setattr(precision, "multiplies_bf16", lambda device: has)
        plan, folder = run_here(path, tmp_path / "runs", *overrides)
        stage = plan.stages["default"]["encode"]
        directory = folder.stage(stage)
        recorded = json.loads((directory / "done.json").read_text())["precision"]
        assert read_index(directory / "latents").provenance["precision"] == recorded
        return directory, recorded, load_file(directory / "latents" / "shard-00001.safetensors")["mean"].float()

    directory, recorded, low = encoded(True)
    assert recorded == "bf16"
    full_directory, recorded, full = encoded(True, "stages.encode.precision=fp32")
    assert recorded == "fp32"
    assert full_directory != directory
    error = ((low - full).norm() / full.norm()).item()
    assert 1e-4 < error < 0.03
    (directory / "done.json").unlink()
    with pytest.raises(DataError, match="was encoded in bf16, and this device would go on in fp32"):
        encoded(False)
    named, recorded, _ = encoded(False, "stages.encode.precision=bf16")
    assert recorded == "bf16"
    assert named != directory
