"""Losses and gradients that are not finite, against plain torch that leaves their steps out."""

import json
import math
from pathlib import Path

import breaking_task
import pytest
import torch
from breaking_task import breaking
from plain_training import task_of, train_plainly
from rank_processes import on_two_ranks
from safetensors.torch import load_file
from tiny_runs import metrics, run_here, tiny_spec, write_spec

from diffusability.core.engine.nonfinite_batch import read_nonfinite_batch
from diffusability.core.errors import CheckpointError, SpecError, TrainingError
from diffusability.core.planning.plan import load_plan
from diffusability.core.run.folder_writer import RunFolder

pytestmark = pytest.mark.integration


def short_spec(folder, **changes):
    """A spec of one training stage of six steps; the file."""
    content = tiny_spec()
    pretrain = content["stages"]["pretrain"] | {"steps": 6, "preview": None, "checkpoint": {"every": 2}} | changes
    return write_spec(folder, {**content, "stages": {"pretrain": pretrain}})


def average_of(trajectory, half_life_steps):
    """The exponential moving average over weights after each update, by its recursion in double precision."""
    average = {name: value.double() for name, value in trajectory[0].items()}
    decay = 0.5 ** (1 / half_life_steps)
    for weights in trajectory[1:]:
        average = {name: decay * average[name] + (1 - decay) * value.double() for name, value in weights.items()}
    return average


def assert_model_is(folder, stage, trained):
    """The saved model is the average over the updates of plain training."""
    saved = load_file(folder.stage(stage) / "model" / "model.safetensors")
    average = average_of(trained.trajectory, 2)
    assert saved
    for name, value in saved.items():
        torch.testing.assert_close(value.double(), average[f"objective.autoencoder.{name}"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_a_broken_step_changes_nothing_and_is_counted(tmp_path, zero_stage):
    """NaN loss, infinite term and NaN gradient, each in one of two micro batches of a step: weights, moments and
    average end as in plain torch without those steps, and so do the losses that are logged."""
    path = short_spec(tmp_path)
    settings = [f"engine.zero_stage={zero_stage}", "engine.micro_batch_size=2"]
    with (
        breaking("loss", [1], last_position=0),
        breaking("term", [2], last_position=3),
        breaking("gradient", [4], last_position=0),
    ):
        plan, folder = run_here(path, tmp_path / "runs", *settings)
    stage = plan.stages["default"]["pretrain"]
    trained = train_plainly(stage, folder, skipped={1, 2, 4})
    assert_model_is(folder, stage, trained)
    lines = metrics(folder.root, "pretrain")
    assert [line["num_skipped"] for line in lines] == [0, 1, 2, 2, 3, 3]
    assert [lines[step]["loss"] for step in (0, 3, 5)] == pytest.approx(
        [trained.losses[s] for s in (0, 3, 5)], rel=1e-5
    )
    assert all("loss" not in lines[step] for step in (1, 2, 4))
    assert json.loads((folder.stage(stage) / "done.json").read_text())["num_skipped"] == 3


def test_a_stage_without_an_update_fails_each_time_and_can_begin_anew(tmp_path):
    """All six steps break, below ``max_skipped``: an error and no model; then the same command, unbroken, trains."""
    path = short_spec(tmp_path)
    with breaking("loss", range(6)), pytest.raises(TrainingError, match="none of the 6 steps of stage 'pretrain'"):
        run_here(path, tmp_path / "runs")
    assert not list(tmp_path.glob("runs/tiny/stages/*/model"))
    assert not list(tmp_path.glob("runs/tiny/stages/*/done.json"))
    plan, folder = run_here(path, tmp_path / "runs")
    done = json.loads((folder.stage(plan.stages["default"]["pretrain"]) / "done.json").read_text())
    assert done["num_skipped"] == 0


def test_nan_on_one_rank_of_two(tmp_path):
    """Only rank 1 breaks, at each ZeRO stage: both skip. Then it breaks for good: both stop with the same sentence,
    and the file that rank 1 has left repeats the failure in plain torch."""
    path = short_spec(tmp_path)
    cases = {
        f"zero-{zero}": {
            "kind": ("loss", "term", "gradient", "term")[zero],
            "steps": [1, 3],
            "position": 3,
            "set": [f"engine.zero_stage={zero}"],
        }
        for zero in (0, 1, 2, 3)
    }
    for zero in (0, 3):
        cases[f"stop-{zero}"] = {
            "kind": "loss",
            "steps": [3, 6],
            "position": 3,
            "set": [f"engine.zero_stage={zero}", "stages.pretrain.max_skipped=2", "engine.micro_batch_size=1"],
        }
    on_two_ranks(Path(breaking_task.__file__), path, json.dumps(cases), tmp_path)
    plan = load_plan(path)
    stage = plan.stages["default"]["pretrain"]
    errors = [json.loads((tmp_path / f"errors-{rank}.json").read_text()) for rank in (0, 1)]
    assert errors[0] == errors[1]
    assert set(errors[0]) == {"stop-0", "stop-3"}
    for name in cases:
        folder = RunFolder(tmp_path / name / "tiny")
        if name.startswith("zero"):
            trained = train_plainly(stage, folder, skipped={1, 2})
            assert_model_is(folder, stage, trained)
            assert metrics(folder.root, "pretrain")[-1]["num_skipped"] == 2
            continue
        message = errors[0][name]
        assert "loss term 'reconstruction' became nan at step 3 on rank 1, and 2 steps in a row" in message
        saved = folder.stage(stage) / "nonfinite" / "step-00000003-rank-1-micro-1.safetensors"
        assert str(saved) in message
        assert [file.name for file in sorted(saved.parent.iterdir())] == [
            saved.name,
            "step-00000003-weights.safetensors",
        ]
        broken = read_nonfinite_batch(saved)
        task, _ = task_of(stage, folder)
        task.load_state_dict(load_file(broken.weights))
        weights = train_plainly(stage, folder, steps=3).trajectory[-1]
        for key, value in task.named_parameters():
            torch.testing.assert_close(value, weights[key], rtol=1e-4, atol=1e-6)
        with breaking("loss", [3], last_position=3):
            assert math.isnan(broken.run(task).loss.item())
        assert math.isfinite(broken.run(task).loss.item())
        assert (broken.step, broken.rank, broken.term, broken.batch.randomness.positions) == (
            3,
            1,
            "reconstruction",
            [3],
        )


def test_skipped_steps_are_remembered_by_a_checkpoint(tmp_path):
    """Two broken steps, a checkpoint, and one more after resuming: the third in a row stops."""
    path = short_spec(tmp_path)
    with breaking("loss", [2, 3, 4]), pytest.raises(TrainingError, match="3 steps in a row"):
        run_here(path, tmp_path / "runs", "stages.pretrain.max_skipped=3")
    with breaking("loss", [4, 5]), pytest.raises(TrainingError, match="at step 4 on rank 0, and 3 steps in a row"):
        run_here(path, tmp_path / "runs", "stages.pretrain.max_skipped=3")
    _, folder = run_here(path, tmp_path / "runs", "stages.pretrain.max_skipped=3")
    assert metrics(folder.root, "pretrain")[-1]["num_skipped"] == 2


def test_a_gradient_that_breaks_alone_is_named(tmp_path):
    """No loss term to blame: the message says gradient, and every micro batch of the step is kept."""
    path = short_spec(tmp_path, max_skipped=1)
    with breaking("gradient", [2]), pytest.raises(TrainingError, match="the gradient was not finite at step 2"):
        run_here(path, tmp_path / "runs", "engine.micro_batch_size=2")
    (folder,) = tmp_path.glob("runs/tiny/stages/pretrain-*/nonfinite")
    names = sorted(file.name for file in folder.iterdir())
    assert names[:2] == ["step-00000002-rank-0-micro-0.safetensors", "step-00000002-rank-0-micro-1.safetensors"]


def test_files_that_are_no_saved_batch_are_refused(tmp_path):
    """Cut short, missing, and of another format: a sentence with the path."""
    path = short_spec(tmp_path, max_skipped=1)
    with breaking("loss", [0]), pytest.raises(TrainingError):
        run_here(path, tmp_path / "runs")
    (saved,) = tmp_path.glob("runs/tiny/stages/pretrain-*/nonfinite/*micro-0.safetensors")
    with pytest.raises(CheckpointError, match="has format None"):
        read_nonfinite_batch(saved.with_name("step-00000000-weights.safetensors"))
    saved.write_bytes(saved.read_bytes()[:-100])
    for broken in (saved, saved.with_name("nowhere.safetensors")):
        with pytest.raises(CheckpointError, match="cannot be read as a saved batch"):
            read_nonfinite_batch(broken)


def test_settings_that_would_blind_the_guard_are_refused(tmp_path):
    """DeepSpeed can be told not to compute the norm that the guard reads."""
    path = short_spec(tmp_path)
    with pytest.raises(SpecError, match="watches for gradients that are not finite"):
        load_plan(path, ["engine.deepspeed.zero_optimization.compute_grad_norm=false"])


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_rounded_weights_and_their_masters_are_guarded_too(tmp_path, zero_stage):
    """bf16 weights with float32 masters, whose gradients DeepSpeed checks in another place: after a NaN at the last
    step, masters and moments are bit for bit those of a run that ended before it."""
    settings = [f"engine.zero_stage={zero_stage}", "engine.precision=bf16-weights"]
    saved = []
    for steps, broken in ((3, [2]), (2, [])):
        path = short_spec(tmp_path, steps=steps, learning_rate={})
        with breaking("loss", broken):
            _, folder = run_here(path, tmp_path / f"runs-{steps}", *settings)
        (checkpoint,) = folder.root.glob(f"stages/pretrain-*/checkpoints/step-{steps:08d}")
        saved.append((checkpoint / "rank-00000.safetensors").read_bytes())
    assert saved[0] == saved[1]
