"""Checkpoints that other numbers of ranks and other ZeRO stages go on from."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import dfz, metrics, run_here, tiny_spec, write_spec

from diffusability.core.engine import distributed
from diffusability.core.engine.checkpoints.checkpoints import Checkpoints

pytestmark = pytest.mark.integration


def pretraining_only():
    """The tiny spec's autoencoder, which saves itself after 5, 10 and 12 steps."""
    content = tiny_spec()
    content["stages"] = {"pretrain": content["stages"]["pretrain"]}
    return content


def back_to_step_10(runs):
    """Takes the last checkpoint and the mark of completion from a finished run; returns its stage folder."""
    (stage,) = runs.glob("tiny/stages/pretrain-*")
    (stage / "done.json").unlink()
    shutil.rmtree(stage / "checkpoints" / "step-00000012")
    return stage


def losses(runs):
    """The training losses of a run, by step."""
    return [line["loss"] for line in metrics(runs / "tiny", "pretrain")]


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    """A finished run at each ZeRO stage, of which step 10 is the last checkpoint."""
    folder = tmp_path_factory.mktemp("whole")
    path = write_spec(folder, pretraining_only())
    for zero_stage in range(4):
        run_here(path, folder / str(zero_stage), f"engine.zero_stage={zero_stage}")
        back_to_step_10(folder / str(zero_stage))
    return folder


@pytest.mark.parametrize(("wrote", "now"), [(0, 1), (0, 3), (1, 3), (2, 0), (2, 1), (3, 0), (3, 2), (3, 3)])
def test_any_zero_stage_goes_on_from_any_other(tmp_path, whole_runs, wrote, now):
    """Against the run that was not interrupted: the same losses, and the same weights to the bit."""
    shutil.copytree(whole_runs / str(wrote), tmp_path / "runs")
    run_here(whole_runs / "spec.yaml", tmp_path / "runs", f"engine.zero_stage={now}")
    assert losses(tmp_path / "runs") == pytest.approx(losses(whole_runs / str(wrote)), rel=1e-5)
    ours, theirs = (
        load_file(next(runs.glob("tiny/stages/pretrain-*/model/model.safetensors")))
        for runs in (tmp_path / "runs", whole_runs / str(wrote))
    )
    for name, value in theirs.items():
        assert ours[name].equal(value), name
    (counters,) = (tmp_path / "runs").glob("tiny/stages/pretrain-*/checkpoints/step-00000012/engine.json")
    assert json.loads(counters.read_text())["steps"] == 12


@pytest.mark.parametrize(("wrote", "now"), [((2, 1), (1, 3)), ((1, 0), (2, 2)), ((2, 3), (1, 0)), ((1, 1), (2, 3))])
def test_training_continues_on_another_number_of_ranks(tmp_path, wrote, now):
    """Written by so many ranks at one ZeRO stage, continued by others at another: the losses and averaged weights of an
    undisturbed run."""
    path = write_spec(tmp_path, pretraining_only())

    def run(layout):
        setting = ("--set", f"engine.zero_stage={layout[1]}")
        return dfz("run", path, "--runs", tmp_path / "runs", "--nproc", layout[0], *setting)

    run(wrote)
    before = losses(tmp_path / "runs")
    stage = back_to_step_10(tmp_path / "runs")
    averaged = load_file(stage / "model" / "model.safetensors")
    shutil.rmtree(stage / "model")
    result = run(now)
    written = f"{wrote[0]} rank{'s' if wrote[0] > 1 else ''} at ZeRO stage {wrote[1]}"
    assert f"resumes after step 10, written by {written}, converted for" in " ".join(result.stdout.split())
    assert losses(tmp_path / "runs") == pytest.approx(before, rel=1e-5)
    torch.testing.assert_close(load_file(stage / "model" / "model.safetensors"), averaged, rtol=1e-4, atol=1e-6)
    assert sorted(folder.name for folder in (stage / "checkpoints").iterdir()) == ["step-00000010", "step-00000012"]


def test_a_checkpoint_of_another_format_is_named_and_put_aside(tmp_path, whole_runs):
    """As if earlier code had written it."""
    (written,) = (whole_runs / "0").glob("tiny/stages/pretrain-*/checkpoints")
    shutil.copytree(written, tmp_path / "checkpoints")
    manifest = tmp_path / "checkpoints" / "step-00000010" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 1}))
    step, skipped = Checkpoints(tmp_path / "checkpoints", distributed.start(), keep=2).newest()
    assert step is None
    assert skipped == ["checkpoint step-00000010 is not whole and was skipped: it has format 1, and format 3 is read"]
    assert (tmp_path / "checkpoints" / "damaged-step-00000010").is_dir()
