"""Ranks started by ``dfz``, torchrun and SLURM; signals, and ranks that die."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from forked_processes import ForkedProcess
from tiny_runs import dfz, metrics, tiny_spec, write_spec

pytestmark = pytest.mark.integration

CORE = ("-m", "diffusability.core.cli")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


def small_spec(steps=6):
    """A spec of one short training stage."""
    content = tiny_spec()
    pretrain = content["stages"]["pretrain"]
    pretrain |= {"steps": steps, "regularizers": [], "preview": None, "checkpoint": {"every": 10_000}}
    return {**content, "stages": {"pretrain": pretrain}}


def losses(runs):
    """The losses of the one stage."""
    return [line["loss"] for line in metrics(Path(runs) / "tiny", "pretrain")]


def start(*command, **more):
    """Starts a process whose output is kept."""
    return ForkedProcess(list(map(str, command)), {**os.environ, **more})


def ranks_of(launcher):
    """Process numbers of a launcher's ranks, which are all its children, started one after another."""
    return [int(pid) for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()]


def reach_step(runs, step, process):
    """Waits until the stage has logged a step."""
    for _ in range(1200):
        for path in Path(runs).glob("tiny/stages/pretrain-*/metrics.jsonl"):
            if len(path.read_text().splitlines()) >= step:
                return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Losses of one process."""
    folder = tmp_path_factory.mktemp("alone")
    dfz("run", write_spec(folder, small_spec()), "--runs", folder / "runs")
    return losses(folder / "runs")


def test_torchrun_and_nproc_give_the_losses_of_one_process(tmp_path, alone):
    """Two ranks, started by us and by torchrun: equal to each other, and within 1e-5 of one process. Ours are processes
    that start anew, not forks."""
    path = write_spec(tmp_path, small_spec())
    ours = dfz("run", path, "--runs", tmp_path / "ours", "--nproc", 2, anew=True)
    assert ours.stdout.count("report:") == 1
    process = start(*TORCHRUN, "--standalone", "--nproc-per-node=2", *CORE, "run", path, "--runs", tmp_path / "theirs")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert losses(tmp_path / "ours") == losses(tmp_path / "theirs")
    assert losses(tmp_path / "ours") == pytest.approx(alone, rel=1e-5)


def test_srun_gives_the_losses_of_one_process(tmp_path, alone):
    """Two processes with the variables that srun sets, and none of torchrun's: within 1e-5 of one process."""
    path = write_spec(tmp_path, small_spec())
    shared = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NNODES": "1", "SLURM_JOB_ID": str(os.getpid())}
    shared |= {"SLURM_JOB_NODELIST": "no-such-host-[01-02]", "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1"}
    processes = [
        start(
            *(sys.executable, *CORE, "run", path, "--runs", tmp_path / "runs"),
            **{**shared, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert losses(tmp_path / "runs") == pytest.approx(alone, rel=1e-5)


def test_a_mistake_on_all_ranks_is_shown_once(tmp_path):
    """An unknown key, met by two ranks of torchrun; their own report of it, not torchrun's."""
    path = write_spec(tmp_path, {**small_spec(), "stagess": {}})
    process = start(*TORCHRUN, "--standalone", "--nproc-per-node=2", *CORE, "run", path, "--runs", tmp_path / "runs")
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert output.count("unknown key 'stagess'") == 1
    assert not (tmp_path / "runs").exists()


def test_an_error_of_training_is_shown_once_and_ends_all_ranks(tmp_path):
    """A learning rate that must diverge, on two ranks: its sentence, status 1, no traceback."""
    path = write_spec(tmp_path, small_spec(steps=100_000))
    divergent = ("--set", "stages.pretrain.optimizer.lr=1e18", "--set", "stages.pretrain.gradient_clip=null")
    process = start(sys.executable, *CORE, "run", path, "--runs", tmp_path / "runs", "--nproc", 2, *divergent)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert output.count("a lower learning rate or a gradient_clip often helps") == 1
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("target", "sent"), [("launcher", signal.SIGTERM), ("rank 1", signal.SIGTERM), ("launcher", signal.SIGUSR1)]
)
def test_a_signal_saves_once_and_ends_all_ranks_with_75(tmp_path, target, sent):
    """To the launcher, or to a rank that is not the first: one checkpoint, one sentence."""
    path = write_spec(tmp_path, small_spec(steps=100_000))
    runs = tmp_path / "runs"
    process = start(sys.executable, *CORE, "run", path, "--runs", runs, "--nproc", 2)
    reach_step(runs, 3, process)
    os.kill(process.pid if target == "launcher" else ranks_of(process)[1], sent)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert output.count("the same command resumes") == 1
    assert "Traceback" not in output
    (checkpoint,) = runs.glob("tiny/stages/pretrain-*/checkpoints/step-*")
    assert (checkpoint / "manifest.json").is_file()
    assert int(checkpoint.name[5:]) == len(losses(runs))


def test_a_stopped_run_of_two_ranks_resumes_where_it_was(tmp_path):
    """SIGTERM to the launcher in the first of 150 steps or so; the same command ends with the losses of one process."""
    content = small_spec(steps=150)
    path = write_spec(tmp_path, content)
    dfz("run", path, "--runs", tmp_path / "alone")
    command = (sys.executable, *CORE, "run", path, "--runs", tmp_path / "runs", "--nproc", 2)
    process = start(*command)
    reach_step(tmp_path / "runs", 1, process)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    resumed = start(*command)
    output, _ = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, output
    assert "resumes after step" in output
    assert losses(tmp_path / "runs") == pytest.approx(losses(tmp_path / "alone"), rel=1e-3)


def test_a_killed_rank_ends_the_command_with_a_sentence(tmp_path):
    """SIGKILL to rank 1: within 20 seconds, status 1, no traceback of the rank that is left."""
    path = write_spec(tmp_path, small_spec(steps=100_000))
    process = start(sys.executable, *CORE, "run", path, "--runs", tmp_path / "runs", "--nproc", 2)
    reach_step(tmp_path / "runs", 3, process)
    killed = time.monotonic()
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - killed < 20
    assert process.returncode == 1, output
    assert "rank 1 of 2 was killed by SIGKILL" in output
    assert "Traceback" not in output


def test_a_stop_during_an_evaluation_reaches_all_ranks(tmp_path):
    """A signal to the launcher in the middle of an evaluation on two ranks: all end with status 75, said once."""
    content = tiny_spec()
    content["stages"] = {name: content["stages"][name] for name in ("pretrain", "measure")}
    content["stages"]["pretrain"] = small_spec(steps=2)["stages"]["pretrain"]
    content["stages"]["measure"] |= {"batch_size": 1}
    content["stages"]["measure"]["evaluators"] = [{"kind": "psnr", "num_samples": 1_000_000}]
    content["data"]["validation_size"] = 1_000_000
    path = write_spec(tmp_path, content)
    process = start(sys.executable, *CORE, "run", path, "--runs", tmp_path / "runs", "--nproc", 2)
    for _ in range(1200):
        if list(tmp_path.glob("runs/tiny/stages/measure-*/resolved.yaml")):
            break
        time.sleep(0.05)
    time.sleep(1)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert output.count("this stage starts again") == 1
