"""Variants beside each other: the results of one after another, and nothing lost when one of them ends early."""

import datetime
import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import dfz, start_dfz, tiny_spec, write_spec

from diffusability.core.errors import RunLockedError
from diffusability.core.planning.plan import load_plan
from diffusability.core.run.folder_writer import RunFolder

pytestmark = pytest.mark.integration


def _spec(steps=12, **changes):
    """Two variants of one training stage; the second has a learning rate of its own."""
    content = tiny_spec()
    content["stages"] = {"pretrain": content["stages"]["pretrain"] | {"steps": steps} | changes}
    content["variants"] = {"a": {}, "b": {"stages.pretrain.optimizer.lr": 2.0e-3}}
    return content


def _start(spec, runs):
    """Starts two jobs and waits until both have logged a step."""

    def logged():
        return {path: path.stat().st_size for path in runs.glob("tiny/stages/*/metrics.jsonl")}

    before = logged()
    process = start_dfz("run", spec, "--jobs", 2, "--runs", runs)
    deadline = time.monotonic() + 300
    while len([path for path, size in logged().items() if size > before.get(path, 0)]) < 2:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


def _status(runs):
    """The stages' states by variant."""
    overview = json.loads((runs / "tiny" / "run.json").read_text())
    return {variant: stages["pretrain"]["status"] for variant, stages in overview["variants"].items()}


def test_jobs_give_the_results_of_one_process_and_overlap(tmp_path):
    """Three variants, two of which share their autoencoder, bit for bit; two stages ran at the same time."""
    content = tiny_spec()
    content["variants"] = {
        "a": {},
        "b": {"stages.dit.optimizer.lr": 2.0e-3},
        "c": {"stages.pretrain.regularizers": []},
    }
    path = write_spec(tmp_path, content)
    output = dfz("run", path, "--runs", tmp_path / "jobs", "--jobs", 2).stdout
    assert "c | [8/12] pretrain (c)" in output
    dfz("run", path, "--runs", tmp_path / "one")  # a process of its own, too: with one thread, as they have
    jobs, single = (json.loads((tmp_path / name / "tiny" / "results.json").read_text()) for name in ("jobs", "one"))
    assert jobs == single
    times = []
    for stage in load_plan(path).order:
        directory = tmp_path / "jobs" / "tiny" / "stages" / stage.directory_name
        done = json.loads((directory / "done.json").read_text())
        end = datetime.datetime.strptime(done["finished"], "%Y-%m-%dT%H:%M:%S%z")
        times.append((end - datetime.timedelta(seconds=done["seconds"] - 1), end))  # ends are whole seconds
    times.sort()
    assert any(later[0] < earlier[1] for earlier, later in itertools.pairwise(times))
    assert (tmp_path / "jobs" / "tiny" / "report.html").is_file()
    again = dfz("run", path, "--runs", tmp_path / "jobs", "--jobs", 2).stdout
    assert [line for line in again.splitlines() if "done before" in line] == [
        f"{name}: done before" for name in ("pretrain", "a", "b", "c")
    ]


def test_a_failing_job_lets_the_others_save(tmp_path):
    """One variant's loss is not finite: its message, which job it was, status 1, and the other resumes. The jobs are
    processes that start anew, not forks."""
    content = _spec(steps=4000)
    content["variants"]["b"] = {"stages.pretrain.optimizer.lr": 1.0e30, "stages.pretrain.learning_rate.warmup_steps": 0}
    path = write_spec(tmp_path, content)
    result = dfz("run", path, "--runs", tmp_path, "--jobs", 2, check_code=1, anew=True)
    assert "b | error:" in result.stdout
    assert "job 'b' ended with an error; its message is above" in result.stderr
    assert _status(tmp_path) == {"a": "stopped", "b": "failed"}
    assert (tmp_path / "tiny" / "report.html").is_file()


def test_keep_going_leaves_out_what_needs_a_failed_job(tmp_path):
    """Two variants share an autoencoder whose loss is not finite; the third is done, and done before the next time."""
    content = tiny_spec()
    content["stages"] = {name: content["stages"][name] for name in ("pretrain", "measure")}
    diverging = {"stages.pretrain.optimizer.lr": 1.0e30, "stages.pretrain.learning_rate.warmup_steps": 0}
    fewer = [{"kind": "psnr", "num_samples": 8}]
    content["variants"] = {"b": diverging, "b-8": diverging | {"stages.measure.evaluators": fewer}, "a": {}}
    path = write_spec(tmp_path, content)
    for again in (False, True):
        result = dfz("run", path, "--runs", tmp_path, "--keep-going", check_code=1)
        assert ("a: done before" in result.stdout) is again
        assert "job 'pretrain' ended with an error; its message is above; the others continue" in result.stdout
        assert "failed: 'pretrain', see above; left out, as they need it: 'b', 'b-8'" in result.stderr
        assert _status(tmp_path) == {"a": "done", "b": "failed", "b-8": "failed"}
    assert "psnr" in json.loads((tmp_path / "tiny" / "results.json").read_text())["variants"]["a"]["measure"]


def test_a_signal_reaches_all_jobs_and_the_run_resumes(tmp_path):
    """Status 75 after both have saved; the same command goes on from there, and can be stopped again."""
    path = write_spec(tmp_path, _spec(steps=4000, preview=None, checkpoint={"every": 4000}))
    for resumed in (False, True):
        process = _start(path, tmp_path)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 75, output
        assert "stopped on SIGTERM" in output
        assert _status(tmp_path) == {"a": "stopped", "b": "stopped"}
        for name in ("a", "b"):
            assert (f"{name} |   pretrain: resumes after step" in output) is resumed


@pytest.mark.skipif(sys.platform != "linux", reason="only there does a process learn of its parent's end")
def test_jobs_of_a_killed_process_save_and_keep_others_out_until_they_have(tmp_path):
    """kill -9 of the process that started them, while they are held for the time of a look at the lock."""
    path = write_spec(tmp_path, _spec(steps=4000, preview=None, checkpoint={"every": 4000}))
    process = _start(path, tmp_path)
    jobs = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    for pid in jobs:
        os.kill(pid, signal.SIGSTOP)
    process.kill()
    process.wait()
    folder = RunFolder(tmp_path / "tiny")
    with (
        pytest.raises(RunLockedError, match=f"a job of process {process.pid}, which is dead, is running"),
        folder.locked(),
    ):
        pass
    for pid in jobs:
        os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("tiny/stages/*/checkpoints/step-*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_jobs_are_refused_under_another_launcher(tmp_path):
    """One rank of torchrun."""
    path = write_spec(tmp_path, _spec())
    result = dfz("run", path, "--jobs", 2, check_code=2, RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    assert "torchrun or deepspeed cannot start it" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_jobs_of_two_ranks_each(tmp_path):
    """Both ways of using several processes together."""
    path = write_spec(tmp_path, _spec(steps=3, preview=None))
    dfz("run", path, "--runs", tmp_path, "--jobs", 2, "--nproc", 2)
    assert _status(tmp_path) == {"a": "done", "b": "done"}
    for file in tmp_path.glob("tiny/stages/*/done.json"):
        assert json.loads(file.read_text())["num_ranks"] == 2
