"""Averages of the weights in whole runs, against sums over weights that plain torch has recorded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from plain_training import train_plainly
from rank_processes import on_two_ranks
from safetensors.torch import load_file
from tiny_runs import run_here, tiny_spec, write_spec
from typer.testing import CliRunner

from diffusability.core.cli.app import app
from diffusability.core.engine.averages.averaged_models import synthesize_model
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.models.saved_models import load_autoencoder
from diffusability.core.numerics.power_function import gamma_of
from diffusability.core.planning.plan import load_plan
from diffusability.core.run.selection import select_model

pytestmark = pytest.mark.integration

STEPS = 8


def averaging_spec(folder):
    """A spec of one training stage with two exponential and two power-function averages; the file."""
    content = tiny_spec()
    pretrain = content["stages"]["pretrain"] | {
        "steps": STEPS,
        "preview": None,
        "checkpoint": {"every": 3},
        "regularizers": [],
        "ema": {"half_life_steps": [2, 5], "power_function": {"sigma_rel": [0.1, 0.2], "snapshot_every": 2}},
    }
    return write_spec(folder, {**content, "stages": {"pretrain": pretrain}})


def exponential(trajectory, half_life):
    """The exponential average over all weights, first ones included, by its closed form."""
    decay = 0.5 ** (1 / half_life)
    last = len(trajectory) - 1
    shares = [decay**last] + [(1 - decay) * decay ** (last - step) for step in range(1, last + 1)]
    return weighted(trajectory, shares)


def power_function(trajectory, sigma_rel):
    """The power-function average over the weights after each step, by its closed form."""
    power = gamma_of(sigma_rel) + 1
    edges = np.arange(len(trajectory)) ** power / (len(trajectory) - 1) ** power
    return weighted(trajectory, [0.0, *np.diff(edges)])


def weighted(trajectory, shares):
    """The weighted sum of weights, in double precision."""
    return {
        name: sum(share * weights[name].double() for share, weights in zip(shares, trajectory, strict=True))
        for name in trajectory[0]
    }


def assert_models_are_averages(stage_folder, trajectory):
    """Each folder that a stage leaves holds its average."""
    expected = {
        "model": exponential(trajectory, 2),
        "model-half-life-5": exponential(trajectory, 5),
        "model-sigma-rel-0.1": power_function(trajectory, 0.1),
        "model-sigma-rel-0.2": power_function(trajectory, 0.2),
    }
    for folder, average in expected.items():
        saved = load_file(stage_folder / folder / "model.safetensors")
        for name, value in saved.items():
            torch.testing.assert_close(value.double(), average[f"objective.autoencoder.{name}"], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_each_average_is_its_closed_form(tmp_path, zero_stage):
    """Two half-lives and two widths at once, at every ZeRO stage; each is a model of its own that can be loaded."""
    plan, folder = run_here(averaging_spec(tmp_path), tmp_path / "runs", f"engine.zero_stage={zero_stage}")
    stage = plan.stages["default"]["pretrain"]
    trained = train_plainly(stage, folder)
    assert_models_are_averages(folder.stage(stage), trained.trajectory)
    assert load_autoencoder(folder.stage(stage) / "model-half-life-5").info.latent_channels == 4
    names = sorted(path.name for path in (folder.stage(stage) / "ema-snapshots").iterdir())
    assert names[:2] == ["step-00000002-sigma-rel-0.1.safetensors", "step-00000002-sigma-rel-0.2.safetensors"]
    assert len(names) == 8


def test_two_ranks_average_as_one(tmp_path):
    """At ZeRO 3 each rank averages its shards only: models and snapshots are those of plain torch."""
    path = averaging_spec(tmp_path)
    program = Path(__file__).parent.parent / "support" / "run_as_rank.py"
    on_two_ranks(program, path, tmp_path / "runs", "engine.zero_stage=3")
    plan = load_plan(path)
    stage = plan.stages["default"]["pretrain"]
    folder = select_model(tmp_path / "runs" / "tiny", "pretrain").directory
    trained = train_plainly(stage, None)
    assert_models_are_averages(folder, trained.trajectory)
    snapshot = load_file(folder / "ema-snapshots" / "step-00000008-sigma-rel-0.2.safetensors")
    for name, value in power_function(trained.trajectory, 0.2).items():
        torch.testing.assert_close(snapshot[name].double(), value, rtol=1e-4, atol=2e-6)


def test_a_width_chosen_after_training(tmp_path):
    """What `dfz ema` writes for a width between the stored ones is near the average tracked in plain torch, nearer
    than either stored one, and loads; a stored width comes back; one with snapshots of an earlier step, too."""
    plan, folder = run_here(averaging_spec(tmp_path), tmp_path / "runs")
    stage = plan.stages["default"]["pretrain"]
    trajectory = train_plainly(stage, folder).trajectory

    def distance(model, average):
        saved = load_file(model / "model.safetensors")
        gaps = [(value.double() - average[f"objective.autoencoder.{name}"]).norm() for name, value in saved.items()]
        return float(torch.stack(gaps).norm())

    to = tmp_path / "chosen"
    arguments = ["ema", str(folder.root), "--stage", "pretrain", "--sigma-rel", "0.14", "--to", str(to)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "average of width 0.14 after step 8, from 8 snapshots" in result.stdout
    wanted = power_function(trajectory, 0.14)
    stored = [distance(folder.stage(stage) / f"model-sigma-rel-{width}", wanted) for width in (0.1, 0.2)]
    assert distance(to, wanted) < 0.25 * min(stored)
    assert load_autoencoder(to).info.latent_channels == 4
    snapshots = folder.stage(stage) / "ema-snapshots"
    for step in (8, 4):
        synthesize_model(folder.stage(stage), 0.1, tmp_path / f"stored-{step}", step=step)
        known = load_file(snapshots / f"step-{step:08d}-sigma-rel-0.1.safetensors")
        for name, value in load_file(tmp_path / f"stored-{step}" / "model.safetensors").items():
            torch.testing.assert_close(value, known[f"objective.autoencoder.{name}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_averages_and_snapshots_resume_bit_for_bit(tmp_path, zero_stage):
    """From the checkpoint of step 6, after a snapshot of a step that must be forgotten: the same files."""
    path = averaging_spec(tmp_path)
    setting = f"engine.zero_stage={zero_stage}"
    plan, folder = run_here(path, tmp_path / "whole", setting)
    stage = plan.stages["default"]["pretrain"]
    run_here(path, tmp_path / "parts", setting)
    parts = tmp_path / "parts" / "tiny" / folder.stage(stage).relative_to(folder.root)
    (parts / "done.json").unlink()
    for model in parts.glob("model*/model.safetensors"):
        model.unlink()
    newest = parts / "checkpoints" / "step-00000008"
    (newest / "half-life-5" / "average.safetensors").unlink()
    run_here(path, tmp_path / "parts", setting)
    files = [*folder.stage(stage).glob("model*/*"), *folder.stage(stage).glob("ema-snapshots/*")]
    assert len(files) == 8 + 8
    for file in files:
        assert file.read_bytes() == (parts / file.relative_to(folder.stage(stage))).read_bytes(), file.name


def test_what_cannot_be_averaged_is_refused(tmp_path):
    """In the spec: nothing to average, a width beyond the plain mean, one half-life twice. Afterwards: no snapshots, a
    step without one, a folder that has content."""
    path = averaging_spec(tmp_path)
    nothing = ["stages.pretrain.ema.half_life_steps=null", "stages.pretrain.ema.power_function=null"]
    with pytest.raises(SpecError, match="ema averages nothing"):
        load_plan(path, nothing)
    for change, message in (
        ("stages.pretrain.ema={power_function: {sigma_rel: [0.5]}}", "expected more than 0 and at most 0.2886"),
        ("stages.pretrain.ema={half_life_steps: [3, 3.0]}", "names a half-life twice"),
        ("stages.pretrain.ema={half_life_steps: []}", "empty list"),
    ):
        with pytest.raises(SpecError, match=message):
            load_plan(path, [change])
    plan, folder = run_here(path, tmp_path / "runs", "stages.pretrain.steps=2")
    stage = folder.stage(plan.stages["default"]["pretrain"])
    with pytest.raises(CheckpointError, match="no snapshot after step 5; there are snapshots after 2"):
        synthesize_model(stage, 0.1, tmp_path / "new", step=5)
    with pytest.raises(CheckpointError, match="already has content"):
        synthesize_model(stage, 0.1, stage)
    snapshot = stage / "ema-snapshots" / "step-00000002-sigma-rel-0.1.safetensors"
    snapshot.write_bytes(snapshot.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        synthesize_model(stage, 0.1, tmp_path / "new")
    for file in (stage / "ema-snapshots").iterdir():
        file.unlink()
    with pytest.raises(CheckpointError, match="no snapshots in"):
        synthesize_model(stage, 0.1, tmp_path / "new")
