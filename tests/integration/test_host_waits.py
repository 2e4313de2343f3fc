"""A training step never waits for the device: nothing is read from it between two lines of the log."""

import traceback
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from tiny_runs import metrics, run_here, tiny_spec, write_spec
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from diffusability.core.engine.training_loop import TrainingLoop
from diffusability.core.engine.update_gate import LaterRead, UpdateGate
from diffusability.models.objectives import flow_matching
from diffusability.models.objectives.denoising_objective import means_by_time

pytestmark = pytest.mark.integration

#: Functions that bring a tensor's content, or a shape that depends on it, to the host.
READS = {
    *(getattr(torch.Tensor, name) for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__")),
    *(getattr(torch.Tensor, name) for name in ("nonzero", "is_nonzero", "__index__", "masked_select", "unique")),
}
READING_KERNELS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "_unique2", "equal")


class Reads(TorchFunctionMode):
    """Notes calls of torch's functions that read from the device, with the line that made them."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        on_device = not args or not isinstance(args[0], torch.Tensor) or not getattr(args[0], "on_host", False)
        if function in READS and on_device:
            self.seen[f"{function.__name__} at {place()}"] += 1
        return function(*args, **(kwargs or {}))


class ReadingKernels(TorchDispatchMode):
    """The same below torch's functions, where DeepSpeed, autograd and optimizers meet kernels."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in READING_KERNELS:
            self.seen[f"{function} at {place()}"] += 1
        return function(*args, **(kwargs or {}))


def place():
    """The innermost line outside of torch and of this file."""
    frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    frame = next(frame for frame in reversed(frames) if frame.filename != __file__)
    return f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"


@contextmanager
def on_the_host():
    """Nothing in it is noted."""
    with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
        yield


@pytest.fixture
def seen(monkeypatch):
    """What was read from the device in the steps that follow no line of the log, as if the CPU were a GPU."""
    noted = Counter()
    inherited = TrainingLoop._step

    def loaded(iterator):
        while True:
            with on_the_host():
                batch = next(iterator)
            yield batch

    def step(self, number, iterator):
        if self._is_logged(number + 1):
            inherited(self, number, iterator)
            return
        with Reads(noted), ReadingKernels(noted):
            inherited(self, number, loaded(iterator))

    def value(self):  # what a GPU has copied to the host by then
        with on_the_host():
            return bool(self.flag)

    def by_time(errors, time, name="velocity"):  # of times that are drawn on the host, and never leave it
        with on_the_host():
            return means_by_time(errors, time, name)

    monkeypatch.setattr(flow_matching, "means_by_time", by_time)
    monkeypatch.setattr(TrainingLoop, "_step", step)
    monkeypatch.setattr(UpdateGate, "reads_later", True)
    monkeypatch.setattr(LaterRead, "value", value)
    return noted


def spec_of(steps):
    """An autoencoder with scale equivariance and averages of all kinds, and a DiT, that log at their end."""
    content = tiny_spec()
    stages = {name: content["stages"][name] for name in ("pretrain", "encode", "dit")}
    ema = {"half_life_steps": [2, 5], "rampup_ratio": 0.05, "power_function": {"snapshot_every": 100}}
    quiet = {"steps": steps, "log_every": steps, "preview": None, "ema": ema, "checkpoint": {"every": steps}}
    stages["pretrain"] |= quiet | {"gradient_clip": 1.0}
    stages["dit"] |= quiet | {"evaluate": None}
    return {**content, "stages": stages}


def test_a_step_reads_nothing_from_the_device(tmp_path, seen):
    """Autoencoder and DiT at ZeRO 0, with accumulation: losses, norms, averages and the guard stay on the device."""
    run_here(write_spec(tmp_path, spec_of(4)), tmp_path / "runs", "engine.micro_batch_size=2")
    assert not seen


def test_an_adversarial_step_reads_nothing_from_the_device(tmp_path, seen):
    """The discriminator's losses, its adaptive weight and its own guard."""
    content = spec_of(4)
    content["stages"] = {"pretrain": content["stages"]["pretrain"]}
    content["stages"]["pretrain"]["adversarial"] = {
        "discriminator": {"layers": 2, "width": 8},
        "r1_weight": 0.1,
        "r1_every": 2,
    }
    run_here(write_spec(tmp_path, content), tmp_path / "runs")
    assert not seen


def test_numbers_read_later_are_the_same(tmp_path, monkeypatch):
    """The log and the weights of a run whose device is read one step late, against one whose device is read at once."""
    lines, weights = [], []
    for late in (False, True):
        monkeypatch.setattr(UpdateGate, "reads_later", late)
        folder = tmp_path / str(late)
        folder.mkdir()
        run = run_here(write_spec(folder, spec_of(6)), folder / "runs")[1].root
        lines.append([{key: line[key] for key in ("step", "loss", "grad_norm")} for line in metrics(run, "pretrain")])
        (path,) = run.glob("stages/pretrain-*/model/model.safetensors")
        weights.append(path.read_bytes())
        averages = sorted(run.glob("stages/pretrain-*/model-*/model.safetensors"))
        weights[-1] = [weights[-1], *(path.read_bytes() for path in averages)]
    assert lines[0] == lines[1]
    assert len(weights[0]) == len(weights[1]) > 2
