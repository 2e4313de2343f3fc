"""Training that is killed at random moments, again and again, and ends as if nothing had happened."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from plain_training import stage_runtime
from tiny_runs import dfz, metrics, run_here, start_dfz, tiny_spec, write_spec

from diffusability.core.engine import distributed
from diffusability.core.engine.batches import BatchPlan, Loader, batches, naming_dead_workers
from diffusability.core.engine.checkpoints.checkpoints import Checkpoints
from diffusability.core.errors import DataError
from diffusability.core.planning.plan import load_plan
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.stages.train import data_context

pytestmark = pytest.mark.integration

NUM_KILLS = 24


def everything_spec(folder):
    """A spec whose stages keep all that a checkpoint can hold: averages of all kinds, snapshots, a discriminator."""
    content = tiny_spec()
    stages = {name: content["stages"][name] for name in ("pretrain", "encode", "dit")}
    ema = {"half_life_steps": [2, 5], "power_function": {"snapshot_every": 3}}
    stages["pretrain"] |= {
        "steps": 24,
        "preview": None,
        "ema": ema,
        "checkpoint": {"every": 2},
        "adversarial": {"discriminator": {"layers": 2, "width": 8}, "r1_weight": 0.1, "r1_every": 3, "start_step": 4},
    }
    stages["dit"] |= {"steps": 20, "preview": None, "evaluate": None, "ema": ema, "checkpoint": {"every": 2}}
    return write_spec(folder, {**content, "stages": stages})


def results(run):
    """What a run has left that must not depend on how often it was interrupted, by relative path."""
    files = {}
    for pattern in ("stages/*/model*/*", "stages/*/ema-snapshots/*", "stages/*/latents/*"):
        files |= {str(path.relative_to(run)): path.read_bytes() for path in Path(run).glob(pattern)}
    return files, metrics(run, "pretrain"), metrics(run, "dit")


def steps_of(run):
    """The newest checkpoint of each stage so far."""
    newest = {}
    for path in sorted(run.glob("stages/*/checkpoints/step-*")):
        newest[path.parent.parent.name.partition("-")[0]] = int(path.name[5:])
    return newest


def kill_at(moment, process, run):
    """Kills a run after so many seconds, or as soon as a checkpoint is being written, unless it has ended."""
    end = time.monotonic() + 60
    if isinstance(moment, float):
        time.sleep(moment)
    else:
        while time.monotonic() < end and not list(Path(run).glob("stages/*/checkpoints/.writing")):
            if process.poll() is not None:
                return
            time.sleep(0.001)
    process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 3])
def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(tmp_path, zero_stage):
    """kill -9 at seeded random times of the whole run, and in a third of the cases while a checkpoint is written; the
    same command goes on each time. Models, averages, snapshots, latents and metrics: bit for bit those of a run that
    was left alone."""
    path = everything_spec(tmp_path)
    setting = f"engine.zero_stage={zero_stage}"
    dfz("run", path, "--runs", tmp_path / "whole", "--set", setting)
    started = time.monotonic()
    dfz("run", path, "--runs", tmp_path / "timed", "--set", setting)
    duration = time.monotonic() - started
    expected = results(tmp_path / "whole" / "tiny")
    assert len(expected[0]) > 20
    rng = random.Random(zero_stage)
    run = tmp_path / "killed" / "tiny"
    num_killed = num_while_writing = num_finished = 0
    while num_killed < NUM_KILLS // 2 or num_finished == 0:
        process = start_dfz("run", path, "--runs", tmp_path / "killed", "--set", setting)
        enough = num_killed >= NUM_KILLS // 2
        if not enough:
            moment = "writing" if num_killed % 3 == 2 else rng.uniform(0.1, 0.7) * duration
            kill_at(moment, process, run)
        output, _ = process.communicate(timeout=600)
        code = process.returncode
        assert code in (0, -signal.SIGKILL), output
        if code == 0:
            num_finished += 1
            assert results(run) == expected
            shutil.rmtree(run)
        else:
            num_killed += 1
            print(f"killed {num_killed}: {moment}, after steps {steps_of(run)}", flush=True)
            num_while_writing += bool(list(run.glob("stages/*/checkpoints/.writing")))
    print(f"killed {num_killed} times, {num_while_writing} while writing; {num_finished} ends; {duration:.1f} s a run")
    assert num_while_writing >= 2


def test_a_checkpoint_cut_at_random_bytes_is_named_and_skipped(tmp_path):
    """Each of twelve seeded cuts of one file, its manifest included, is noticed and names the file; training goes on
    from the checkpoint before and ends as it would have."""
    content = tiny_spec()
    content["stages"] = {"pretrain": content["stages"]["pretrain"] | {"steps": 6, "checkpoint": {"every": 2}}}
    path = write_spec(tmp_path, content)
    plan, folder = run_here(path, tmp_path / "runs")
    stage = folder.stage(plan.stages["default"]["pretrain"])
    before = metrics(folder.root, "pretrain")
    model = (stage / "model" / "model.safetensors").read_bytes()
    rng = random.Random(0)
    newest = stage / "checkpoints" / "step-00000006"
    files = sorted(file.relative_to(newest) for file in newest.rglob("*") if file.is_file())
    for number in range(12):
        copy = tmp_path / f"cut-{number}"
        shutil.copytree(stage / "checkpoints", copy)
        name = rng.choice(files) if number else Path("manifest.json")
        victim = copy / newest.name / name
        size = victim.stat().st_size
        os.truncate(victim, rng.randrange(size - 1))
        step, skipped = Checkpoints(copy, distributed.start(), keep=2).newest()
        assert step == 4
        assert len(skipped) == 1
        assert "checkpoint step-00000006 is not whole and was skipped: " in skipped[0]
        assert str(name) in skipped[0]
    victim = newest / rng.choice(files)
    os.truncate(victim, rng.randrange(victim.stat().st_size - 1))
    (stage / "done.json").unlink()
    run_here(path, tmp_path / "runs")
    assert metrics(folder.root, "pretrain") == before
    assert (stage / "model" / "model.safetensors").read_bytes() == model


def test_a_loading_process_that_dies_is_named(tmp_path):
    """kill -9 of one of two workers: an error for users with its number, not a hang and not a traceback of torch's."""
    stage = load_plan(write_spec(tmp_path, tiny_spec())).stages["default"]["pretrain"]
    dataset, _ = data_context(stage, stage_runtime(RunFolder(tmp_path)))
    plan = BatchPlan(seed=0, batch_size=4, micro_batch_size=4, rank=0, num_ranks=1)

    def load():
        with naming_dead_workers():
            loaded = iter(batches(dataset, plan, 0, 10_000, num_workers=2))
            next(loaded)
            os.kill(multiprocessing.active_children()[1].pid, signal.SIGKILL)
            for _ in loaded:
                pass

    with pytest.raises(DataError, match=r"a data loading process \(pid \d+\) died: it (is killed by signal|exited)"):
        load()


@pytest.mark.parametrize("lost", [ConnectionResetError, BrokenPipeError, EOFError])
def test_a_lost_connection_waits_for_the_news_of_a_death(monkeypatch, lost):
    """The connection breaks a moment before torch learns of the death: the error names the death."""
    heard = time.monotonic() + 0.3

    def news():
        if time.monotonic() > heard:
            raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")

    monkeypatch.setattr("torch._C._error_if_any_worker_fails", news)
    with pytest.raises(DataError, match=r"\(pid 12\) died: it is killed by signal: Killed"), naming_dead_workers():
        list(Loader(Breaking(lost)))


def test_a_lost_connection_of_another_kind_passes_as_it_is(monkeypatch):
    """No loading process died: the dataset's own connection was lost."""
    monkeypatch.setattr("diffusability.core.engine.batches.NEWS_OF_A_DEATH", 0.1)
    with pytest.raises(ConnectionResetError), naming_dead_workers():
        list(Loader(Breaking(ConnectionResetError)))


class Breaking(torch.utils.data.Dataset):
    """A dataset whose first example loses its connection."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


def test_other_errors_are_not_taken_for_dead_workers():
    """They pass as they are."""
    with pytest.raises(RuntimeError, match="out of memory"), naming_dead_workers():
        raise RuntimeError("out of memory")
