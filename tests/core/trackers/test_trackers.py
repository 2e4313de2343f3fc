import json

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffusability.core.engine.metrics_log import MetricsLog
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.trackers.run_identity import run_id_of
from diffusability.core.trackers.specs import TensorBoardSpec, WandbSpec
from diffusability.core.trackers.tensorboard import TensorBoardTracker


def events(directory):
    """What TensorBoard itself reads."""
    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return accumulator


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path):
    """Six steps, of which the last three are lost and written again with other values."""
    for first, last, offset in ((1, 6, 0.0), (4, 6, 10.0)):
        tracker = TensorBoardTracker()
        tracker.start("pretrain", tmp_path, {"seed": 0})
        for step in range(first, last + 1):
            tracker.log(step, {"step": step, "loss": step + offset, "eval/psnr": 2.0 * step})
        tracker.finish()
    read = events(tmp_path / "tensorboard")
    assert set(read.Tags()["scalars"]) == {"loss", "eval/psnr"}
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [
        (1, 1.0), (2, 2.0), (3, 3.0), (4, 14.0), (5, 15.0), (6, 16.0)
    ]  # fmt: skip


def test_every_line_and_grid_of_the_log_reaches_the_trackers(tmp_path):
    """Lines as written to the file, and an image as it was saved: same size."""
    tracker = TensorBoardSpec().build(BuildContext())
    tracker.start("pretrain", tmp_path, {})
    log = MetricsLog(tmp_path / "metrics.jsonl", [tracker])
    log.write({"step": 5, "loss": 1.5})
    log.write({"step": 5, "eval/psnr": 20.0})
    Image.new("RGB", (6, 4), (255, 0, 128)).save(tmp_path / "grid.png")
    log.show(5, "samples", tmp_path / "grid.png")
    tracker.finish()
    read = events(tmp_path / "tensorboard")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for name in line.keys() - {"step"}:
            assert [(event.step, event.value) for event in read.Scalars(name)] == [(5, line[name])]
    (image,) = read.Images("samples")
    assert (image.step, image.width, image.height) == (5, 6, 4)


@pytest.mark.parametrize("spec", [TensorBoardSpec(), WandbSpec()])
def test_a_missing_library_is_named_with_its_extra(monkeypatch, spec):
    """The sentence of a check, before anything starts; and nothing to say about what is installed."""
    assert spec.check_inputs() is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"tracker '{spec.kind}'.*pip install 'diffusability-core\[{spec.kind}\]'"):
        spec.check_inputs()


def test_a_stage_keeps_its_run_in_wandb(tmp_path):
    """The same identity when the stage resumes; another one for another stage."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert run_id_of(tmp_path / "a", "wandb") == run_id_of(tmp_path / "a", "wandb")
    assert run_id_of(tmp_path / "a", "wandb") != run_id_of(tmp_path / "b", "wandb")


@pytest.mark.parametrize("mode", ["onlin", "", None])
def test_modes_of_wandb_are_checked(mode):
    """Only the three that the library knows."""
    with pytest.raises(ValueError, match="'online', 'offline' or 'disabled'"):
        WandbSpec(mode=mode)
