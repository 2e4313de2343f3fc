"""The engine against plain torch, against itself interrupted, and on one and two ranks."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny_runs import dfz, metrics, run_here, start_dfz, tiny_spec, write_spec

from diffusability.core.engine import distributed
from diffusability.core.engine.batches import BatchPlan, batches
from diffusability.core.engine.deepspeed_engine import deepspeed_config
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.planning.plan import load_plan
from diffusability.core.stages.runtime import StageRuntime
from diffusability.core.stages.train import build_task, data_context

pytestmark = pytest.mark.integration


def plain_torch_losses(stage, folder):
    """The losses of a training stage from a loop without DeepSpeed: AdamW, clipping, the schedule written out."""
    spec = stage.spec
    runtime = StageRuntime(folder=folder, ranks=distributed.start(), console=Console(quiet=True), stop=StopRequest())
    dataset, context = data_context(stage, runtime)
    task = build_task(stage, context, dataset)
    optimizer = torch.optim.AdamW(
        task.parameters(),
        lr=spec.optimizer.lr,
        betas=spec.optimizer.betas,
        eps=spec.optimizer.eps,
        weight_decay=spec.optimizer.weight_decay,
    )
    plan = BatchPlan(seed=stage.seed, batch_size=spec.batch_size, micro_batch_size=spec.batch_size, rank=0, num_ranks=1)
    losses = []
    for step, loaded in enumerate(batches(dataset, plan, 0, spec.steps)):
        warmup = spec.learning_rate.warmup_steps
        factor = 1.0
        if step < warmup:
            factor = (step + 1) / warmup
        elif spec.learning_rate.decay == "cosine":
            angle = torch.tensor(torch.pi * (step + 1 - warmup) / (spec.steps - warmup))
            factor = 0.5 * (1 + float(torch.cos(angle)))
        optimizer.param_groups[0]["lr"] = spec.optimizer.lr * factor
        optimizer.zero_grad()
        output = task(loaded.batch)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), spec.gradient_clip)
        optimizer.step()
        losses.append(output.loss.item())
    return losses


def twenty_steps():
    """Both training stages of the tiny spec, long enough for small errors to add up; nothing is shown meanwhile."""
    content = tiny_spec()
    stages = {name: content["stages"][name] for name in ("pretrain", "encode", "dit")}
    for name in ("pretrain", "dit"):
        stages[name] |= {"steps": 20, "preview": None, "evaluate": None, "checkpoint": {"every": 20}}
    return {**content, "stages": stages}


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("micro_batch_size", [4, 2])
def test_training_equals_plain_torch(tmp_path, zero_stage, micro_batch_size):
    """Losses of 20 steps of the autoencoder and of the denoiser, also with accumulation: within 1e-5 relative."""
    settings = [f"engine.zero_stage={zero_stage}", f"engine.micro_batch_size={micro_batch_size}"]
    path = write_spec(tmp_path, twenty_steps())
    plan, folder = run_here(path, tmp_path / "runs", *settings, until="dit")
    for name in ("pretrain", "dit"):
        stage = plan.stages["default"][name]
        logged = [line["loss"] for line in metrics(folder.root, name) if "loss" in line]
        assert logged == pytest.approx(plain_torch_losses(stage, folder), rel=1e-5)


def test_the_saved_model_is_the_average_of_the_weights(tmp_path):
    """With an infinite half-life nearly the first weights, with a tiny one nearly the last."""
    content = tiny_spec()
    content["stages"] = {"pretrain": content["stages"]["pretrain"]}
    weights = {}
    for half_life in (1e-3, 1e9):
        path = write_spec(tmp_path, content)
        override = f"stages.pretrain.ema.half_life_steps={half_life}"
        plan, folder = run_here(path, tmp_path / f"runs{half_life}", override)
        stage = plan.stages["default"]["pretrain"]
        weights[half_life] = load_file(folder.stage(stage) / "model" / "model.safetensors")["encoder.1.weight"]
        runtime = StageRuntime(
            folder=folder, ranks=distributed.start(), console=Console(quiet=True), stop=StopRequest()
        )
        dataset, context = data_context(stage, runtime)
        initial = build_task(stage, context, dataset).objective.autoencoder.state_dict()["encoder.1.weight"]
    torch.testing.assert_close(weights[1e9], initial, rtol=0, atol=1e-6)
    assert (weights[1e-3] - initial).abs().max() > 1e-3


def test_two_ranks_give_the_losses_of_one(tmp_path):
    """The same global batch on one and on two processes, at every ZeRO stage: losses within 1e-5 relative, and the
    averaged weights too, which at stage 3 are gathered from shards. Evaluations during training give the same too."""
    content = tiny_spec()
    content["stages"] = {name: content["stages"][name] for name in ("pretrain", "encode", "dit")}
    content["stages"]["pretrain"]["evaluate"] = {"every": 6, "evaluators": [{"kind": "psnr", "num_samples": 100}]}
    path = write_spec(tmp_path, content)
    dfz("run", path, "--runs", tmp_path / "one")
    for zero_stage in (0, 1, 2, 3):
        runs = tmp_path / f"two-{zero_stage}"
        dfz("run", path, "--runs", runs, "--nproc", 2, "--set", f"engine.zero_stage={zero_stage}")
        for stage in ("pretrain", "dit"):
            single = [line["loss"] for line in metrics(tmp_path / "one" / "tiny", stage) if "loss" in line]
            double = [line["loss"] for line in metrics(runs / "tiny", stage) if "loss" in line]
            assert double == pytest.approx(single, rel=1e-5)
            evaluated = [_evaluated(folder / "tiny", stage) for folder in (tmp_path / "one", runs)]
            assert len(evaluated[0]) == 2
            for alone, together in zip(*evaluated, strict=True):
                assert together == pytest.approx(alone, rel=1e-3)
            ours, theirs = (
                load_file(next((folder / "tiny").glob(f"stages/{stage}-*/model/*.safetensors")))
                for folder in (runs, tmp_path / "one")
            )
            for name, value in theirs.items():
                torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5)


def test_two_ranks_give_the_losses_of_one_for_twenty_steps(tmp_path):
    """The same global batch on one and on two processes, at every ZeRO stage, long enough for errors to add up: losses
    within 1e-5 relative. The denoiser sees the same cached latents: of an autoencoder that differs in its last bits,
    some would round to another number in half precision."""
    path, single = write_spec(tmp_path, twenty_steps()), tmp_path / "one" / "tiny"
    dfz("run", path, "--runs", single.parent)
    for zero_stage in (0, 1, 2, 3):
        double = tmp_path / f"two-{zero_stage}" / "tiny"
        arguments = ("run", path, "--runs", double.parent, "--nproc", 2, "--set", f"engine.zero_stage={zero_stage}")
        dfz(*arguments, "--until", "pretrain")
        assert _losses(double, "pretrain") == pytest.approx(_losses(single, "pretrain"), rel=1e-5)
        shutil.rmtree(double)
        shutil.copytree(single, double, ignore=shutil.ignore_patterns("dit-*"))
        dfz(*arguments)
        assert _losses(double, "dit") == pytest.approx(_losses(single, "dit"), rel=1e-5)


def _losses(folder, stage):
    """The losses of the twenty steps."""
    losses = [line["loss"] for line in metrics(folder, stage) if "loss" in line]
    assert len(losses) == 20
    return losses


def _evaluated(folder, stage):
    """What was evaluated during a training stage, without the step."""
    return [
        {name: value for name, value in line.items() if name.startswith("eval/")}
        for line in metrics(folder, stage)
        if any(name.startswith("eval/") for name in line)
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run of two training stages that nothing disturbs."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    dfz("run", write_spec(folder, slow_spec()), "--runs", folder / "runs")
    return folder / "runs" / "tiny"


def slow_spec():
    """Training long enough to be killed in the middle."""
    content = tiny_spec()
    content["stages"] = {name: content["stages"][name] for name in ("pretrain", "encode", "dit")}
    content["stages"]["pretrain"] |= {"steps": 60, "log_every": 4}
    content["stages"]["dit"] |= {"steps": 30, "log_every": 4}
    return content


@pytest.mark.parametrize(
    ("sent", "step"), [(signal.SIGKILL, 9), (signal.SIGKILL, 22), (signal.SIGTERM, 14), (signal.SIGINT, 31)]
)
def test_an_interrupted_run_continues_as_if_nothing_had_happened(tmp_path, uninterrupted, sent, step):
    """Killed or asked to stop in the middle; then the same command: equal metrics and bit-equal weights."""
    path = write_spec(tmp_path, slow_spec())
    process = start_dfz("run", path, "--runs", tmp_path / "runs")
    reach_step(tmp_path / "runs" / "tiny", "pretrain", step)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == (75 if sent != signal.SIGKILL else -signal.SIGKILL), output
    if sent != signal.SIGKILL:
        assert "the same command resumes" in output
    resumed = dfz("run", path, "--runs", tmp_path / "runs")
    assert "resumes after step" in resumed.stdout
    for stage in ("pretrain", "dit"):
        assert metrics(tmp_path / "runs" / "tiny", stage) == metrics(uninterrupted, stage)
        (ours,) = (tmp_path / "runs" / "tiny").glob(f"stages/{stage}-*/model/model.safetensors")
        (theirs,) = uninterrupted.glob(f"stages/{stage}-*/model/model.safetensors")
        assert ours.read_bytes() == theirs.read_bytes()


def reach_step(run, stage, step):
    """Waits until a stage has logged a step."""
    for _ in range(1200):
        for path in Path(run).glob(f"stages/{stage}-*/metrics.jsonl"):
            whole = [line for line in path.read_text().splitlines() if line.endswith("}")]
            if any(json.loads(line)["step"] >= step for line in whole):
                return
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached")


def test_a_truncated_checkpoint_is_named_and_skipped(tmp_path):
    """The newest checkpoint loses bytes: the one before it is used, and training ends as it would have."""
    content = tiny_spec()
    content["stages"] = {"pretrain": content["stages"]["pretrain"]}
    path = write_spec(tmp_path, content)
    _, folder = run_here(path, tmp_path / "runs")
    before = metrics(folder.root, "pretrain")
    (stage,) = folder.root.glob("stages/pretrain-*")
    (stage / "done.json").unlink()
    newest = stage / "checkpoints" / "step-00000012"
    (file,) = newest.glob("rank-*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    result = dfz("run", path, "--runs", tmp_path / "runs")
    assert "step-00000012 is not whole and was skipped" in result.stdout
    assert "resumes after step 10" in result.stdout
    assert metrics(folder.root, "pretrain") == before


def test_further_deepspeed_settings_are_passed_on(tmp_path):
    """A setting that DeepSpeed knows and a spec does not; it arrives beside our own."""
    content = tiny_spec()
    content["engine"]["deepspeed"] = {"zero_optimization": {"reduce_bucket_size": 12345}, "wall_clock_breakdown": False}
    plan = load_plan(write_spec(tmp_path, content), ["engine.zero_stage=2"])
    stage = plan.stages["default"]["pretrain"]
    config = deepspeed_config(stage.spec, stage.engine, num_ranks=2)
    assert config["zero_optimization"] == {"reduce_bucket_size": 12345, "stage": 2}
    assert config["train_micro_batch_size_per_gpu"] == 2
    assert config["wall_clock_breakdown"] is False


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 9 MiB; skips where one cannot be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=9m", "tmpfs", str(disk)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_and_spoils_no_checkpoint(tmp_path, small_disk):
    """A real one: exit status 1, one sentence, and what was saved before can be resumed once there is room."""
    content = tiny_spec()
    content["stages"] = {"pretrain": content["stages"]["pretrain"]}
    content["stages"]["pretrain"] |= {"checkpoint": {"every": 2, "keep": 5}, "preview": None}
    content["stages"]["pretrain"]["objective"]["autoencoder"]["width"] = 64
    path = write_spec(tmp_path, content)
    result = dfz("run", path, "--runs", small_disk, check_code=1)
    assert "the disk is full" in result.stderr
    assert "earlier ones are intact" in result.stderr
    assert "Traceback" not in result.stderr
    (checkpoints,) = small_disk.glob("tiny/stages/pretrain-*/checkpoints")
    kept = sorted(folder.name for folder in checkpoints.iterdir())
    assert kept
    assert all(name.startswith("step-") for name in kept)
    shutil.copytree(small_disk / "tiny", tmp_path / "roomy" / "tiny")
    resumed = dfz("run", path, "--runs", tmp_path / "roomy")
    assert f"resumes after step {int(kept[-1][5:])}" in resumed.stdout


def test_a_loss_that_is_not_finite_stops_with_the_term_and_step(tmp_path):
    """A learning rate that must diverge: exit status 1, the step named, no traceback."""
    content = tiny_spec()
    content["stages"] = {"pretrain": content["stages"]["pretrain"]}
    overrides = ["stages.pretrain.optimizer.lr=1e18", "stages.pretrain.gradient_clip=null"]
    arguments = [word for override in overrides for word in ("--set", override)]
    result = dfz("run", write_spec(tmp_path, content), "--runs", tmp_path / "runs", *arguments, check_code=1)
    assert "at step" in result.stderr
    assert "loss term" in result.stderr
    assert "Traceback" not in result.stderr
