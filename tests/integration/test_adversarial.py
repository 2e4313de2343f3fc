"""The adversarial loss on its second engine, against plain torch with two optimizers."""

import signal
from pathlib import Path

import pytest
from breaking_task import breaking
from plain_adversarial import train_adversarially
from rank_processes import on_two_ranks
from tiny_runs import metrics, run_here, tiny_spec, write_spec

from diffusability.core.engine.stopping import SIGNALS, StopRequest
from diffusability.core.errors import SpecError, StoppedOnRequest
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import load_plan

pytestmark = pytest.mark.integration

NAMES = ("loss", "adversarial", "discriminator", "adaptive_weight", "r1")
DISCRIMINATOR = {"layers": 2, "width": 8}
HINGE = {"weight": 0.5, "r1_weight": 0.1, "r1_every": 3, "start_step": 2, "discriminator": DISCRIMINATOR}
NON_SATURATING = {"loss": "non-saturating", "adaptive": False, "weight": 0.1}
NON_SATURATING["discriminator"] = DISCRIMINATOR | {"norm": "none"}


def adversarial_spec(folder, adversarial, steps=10):
    """A spec of one autoencoder with a discriminator; the file."""
    content = tiny_spec()
    optimizer = {"optimizer": {"lr": 1.0e-3, "eps": 1.0e-6, "betas": [0.5, 0.9]}}
    pretrain = content["stages"]["pretrain"] | {
        "steps": steps,
        "preview": None,
        "learning_rate": {},
        "regularizers": [{"kind": "kl", "weight": 1.0e-4}],
        "checkpoint": {"every": 4},
        "adversarial": adversarial | optimizer,
    }
    return write_spec(folder, {**content, "stages": {"pretrain": pretrain}})


def assert_logged(folder, history):
    """What was logged at each step is what plain torch computed, within 1e-5 relative."""
    lines = [line for line in metrics(folder, "pretrain") if "loss" in line]
    assert len(lines) == len(history)
    for line, expected in zip(lines, history, strict=True):
        logged = {name: line[name] for name in NAMES if name in line}
        assert logged == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_training_equals_plain_torch(tmp_path, zero_stage):
    """Hinge loss with adaptive weight and lazy R1 penalty, from the third step on, at every ZeRO stage: all losses, the
    penalty and the weight, which plain torch gets from autograd at the last layer."""
    path = adversarial_spec(tmp_path, HINGE)
    plan, folder = run_here(path, tmp_path / "runs", f"engine.zero_stage={zero_stage}")
    history = train_adversarially(plan.stages["default"]["pretrain"], folder)
    assert "adversarial" not in history[1]
    assert "r1" in history[2]
    assert_logged(folder.root, history)


def test_non_saturating_loss_equals_plain_torch(tmp_path):
    """With a fixed weight and without normalisation; micro batches give the same, as nothing looks across samples."""
    path = adversarial_spec(tmp_path, NON_SATURATING)
    plan, folder = run_here(path, tmp_path / "runs", "engine.micro_batch_size=2")
    assert_logged(folder.root, train_adversarially(plan.stages["default"]["pretrain"], folder))


def test_two_ranks_equal_plain_torch(tmp_path):
    """The adaptive weight is that of the global batch: its gradients are summed over ranks. At ZeRO 3, where the
    discriminator's engine is at 2."""
    path = adversarial_spec(tmp_path, HINGE, steps=6)
    program = Path(__file__).parent.parent / "support" / "run_as_rank.py"
    history = train_adversarially(load_plan(path).stages["default"]["pretrain"], None)
    on_two_ranks(program, path, tmp_path / "runs", "engine.zero_stage=3")
    assert_logged(tmp_path / "runs" / "tiny", history)


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_it_resumes_bit_for_bit(tmp_path, zero_stage, monkeypatch):
    """Stopped after step 5, then the same command: metrics, model and the discriminator's state of the last checkpoint
    are those of an undisturbed run."""
    path = adversarial_spec(tmp_path, HINGE)
    setting = f"engine.zero_stage={zero_stage}"
    _, whole = run_here(path, tmp_path / "whole", setting)

    class StopsAfter(StopRequest):
        """A request that comes at the fifth time it is asked for."""

        asked = 0

        def __bool__(self):
            self.asked += 1
            if self.asked == 7:
                self.signal_name = "SIGTERM"
            return self.signal_name is not None

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with monkeypatch.context() as patch:
        patch.setattr("diffusability.core.stages.runner.StopRequest", StopsAfter)
        with pytest.raises(StoppedOnRequest):
            run_here(path, tmp_path / "parts", setting)
    for number, handler in handlers.items():  # a stopped process is about to end, and ignores further requests
        signal.signal(number, handler)
    (stage,) = (tmp_path / "parts").glob("tiny/stages/pretrain-*")
    assert 1 < len(metrics(stage.parent.parent, "pretrain")) < 10
    run_here(path, tmp_path / "parts", setting)
    assert metrics(tmp_path / "parts" / "tiny", "pretrain") == metrics(whole.root, "pretrain")
    other = next(whole.root.glob("stages/pretrain-*"))
    for file in ("model/model.safetensors", "checkpoints/step-00000010/discriminator/rank-00000.safetensors"):
        assert (stage / file).read_bytes() == (other / file).read_bytes()


def test_a_checkpoint_of_one_layout_goes_on_in_another(tmp_path):
    """Written at ZeRO 0, continued at 3 from step 8: the losses of an undisturbed run."""
    path = adversarial_spec(tmp_path, HINGE)
    _, folder = run_here(path, tmp_path / "runs", "engine.zero_stage=0")
    before = metrics(folder.root, "pretrain")
    (stage,) = folder.root.glob("stages/pretrain-*")
    (stage / "done.json").unlink()
    (stage / "checkpoints" / "step-00000010" / "manifest.json").unlink()
    run_here(path, tmp_path / "runs", "engine.zero_stage=3")
    after = metrics(folder.root, "pretrain")
    for ours, theirs in zip(after, before, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_broken_step_changes_neither_side(tmp_path):
    """NaN at the fourth step: weights and moments of both engines are, bit for bit, those after three steps."""
    with breaking("loss", [3]):
        _, broken = run_here(adversarial_spec(tmp_path, HINGE, steps=4), tmp_path / "broken")
    _, shorter = run_here(adversarial_spec(tmp_path, HINGE, steps=3), tmp_path / "shorter")
    lines = metrics(broken.root, "pretrain")
    assert "loss" not in lines[3]
    assert lines[3]["num_skipped"] == 1
    (ours,) = broken.root.glob("stages/pretrain-*/checkpoints/step-00000004")
    (theirs,) = shorter.root.glob("stages/pretrain-*/checkpoints/step-00000003")
    for file in ("rank-00000.safetensors", "discriminator/rank-00000.safetensors"):
        assert (ours / file).read_bytes() == (theirs / file).read_bytes()


def test_it_is_for_reconstructions_that_it_can_judge(tmp_path):
    """A denoiser reconstructs nothing; a deep discriminator has no patch in small images."""
    content = tiny_spec()
    content["stages"]["dit"]["adversarial"] = {}
    with pytest.raises(SpecError, match="'images', 'reconstruction', which objective 'flow-matching' does not provide"):
        check(load_plan(write_spec(tmp_path, content)))
    path = adversarial_spec(tmp_path, HINGE | {"discriminator": {"layers": 4}})
    with pytest.raises(SpecError, match="needs images of 48 pixels at least, and these have 32"):
        run_here(path, tmp_path / "runs")
