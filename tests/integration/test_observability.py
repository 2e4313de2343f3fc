"""What a run tells while it trains: memory, gradient norms, trackers, traces."""

import json
import math

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import dfz, run_here, tiny_spec, write_spec

from diffusability.core.planning.plan import load_plan
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.stages.runner import run

pytestmark = pytest.mark.integration


def observed_spec():
    """One short stage that logs all there is."""
    content = tiny_spec()
    evaluate = {"every": 3, "evaluators": [{"kind": "psnr", "num_samples": 4}]}
    stage = content["stages"]["pretrain"] | {"steps": 6, "log_gradient_norms": True, "evaluate": evaluate}
    stage["trackers"] = [{"kind": "tensorboard"}]
    return {**content, "stages": {"pretrain": stage}}


def lines_of(folder):
    """All lines of metrics of the one stage."""
    (path,) = folder.root.glob("stages/pretrain-*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_parts_of_the_gradient_norm_make_the_whole(tmp_path, zero_stage):
    """The root of the sum of squares of the parts against the global norm, which is computed elsewhere: 1e-5."""
    path = write_spec(tmp_path, observed_spec())
    _, folder = run_here(path, tmp_path / "runs", f"engine.zero_stage={zero_stage}")
    trained = [line for line in lines_of(folder) if "loss" in line]
    assert len(trained) == 6
    for line in trained:
        parts = [value for name, value in line.items() if name.startswith("grad_norm/")]
        assert {"grad_norm/encoder", "grad_norm/decoder"} <= set(line)
        assert math.hypot(*parts) == pytest.approx(line["grad_norm"], rel=1e-5)
        assert 100 * 2**20 < line["memory_bytes"] < 64 * 2**30


def test_a_tracker_gets_every_number_of_the_metrics_file(tmp_path):
    """TensorBoard's own reader against metrics.jsonl, evaluations included, and the grid of samples."""
    _, folder = run_here(write_spec(tmp_path, observed_spec()), tmp_path / "runs")
    (directory,) = folder.root.glob("stages/pretrain-*/tensorboard")
    read = EventAccumulator(str(directory))
    read.Reload()
    for line in lines_of(folder):
        for name in line.keys() - {"step"}:
            (value,) = [event.value for event in read.Scalars(name) if event.step == line["step"]]
            assert value == pytest.approx(line[name], rel=1e-6)
    assert "eval/psnr" in read.Tags()["scalars"]
    assert [image.step for image in read.Images("samples")] == [6]


def test_a_profile_traces_as_many_steps_as_asked(tmp_path):
    """Two steps after the warm-up, in Chrome's format; the losses are those of a run without it."""
    path = write_spec(tmp_path, observed_spec())
    plan = load_plan(path)
    folder = RunFolder(tmp_path / "profiled" / plan.name)
    with folder.locked():
        run(plan, plan.order, folder, Console(quiet=True), "dfz run", profile_steps=2)
    (trace,) = folder.root.glob("stages/pretrain-*/profile/rank-0.trace.json")
    names = {event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"]}
    assert len({name for name in names if name.startswith("ProfilerStep#")}) == 2
    assert any("convolution" in name for name in names)
    _, other = run_here(path, tmp_path / "plain")
    losses, expected = ([line.get("loss") for line in lines_of(place)] for place in (folder, other))
    assert losses == expected


def test_wandb_continues_the_run_of_an_interrupted_stage(tmp_path):
    """Offline, as the library itself writes it: two parts with one identity."""
    content = observed_spec()
    content["stages"]["pretrain"]["trackers"] = [{"kind": "wandb", "mode": "offline", "tags": ["tiny"]}]
    path = write_spec(tmp_path, content)
    dfz("run", path, "--runs", tmp_path / "runs")
    (stage,) = tmp_path.glob("runs/tiny/stages/pretrain-*")
    identity = (stage / "wandb-run-id.txt").read_text().strip()
    (stage / "done.json").unlink()
    newest = max((stage / "checkpoints").iterdir())
    (newest / "manifest.json").unlink()
    dfz("run", path, "--runs", tmp_path / "runs")
    parts = list((stage / "wandb").glob("offline-run-*"))
    assert {part.name.rpartition("-")[2] for part in parts} == {identity}
    assert all(list(part.glob("*.wandb")) for part in parts)
