"""The whole path, from photographs to samples and a report, through the real engine."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from empty_figures import figures
from PIL import Image
from tiny_runs import dfz, run_here, start_dfz, tiny_spec, write_spec

from diffusability.core.specs.build_context import BuildContext

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run with two variants that share nothing but their pretraining's name and settings."""
    folder = tmp_path_factory.mktemp("run")
    content = tiny_spec()
    content["variants"] = {"a": {}, "b": {"stages.dit.optimizer.lr": 2.0e-3}}
    with figures(drawn=True):
        return run_here(write_spec(folder, content), folder / "runs")


def test_every_file_of_the_contract_is_there(finished):
    """What the architecture promises that a run leaves behind."""
    plan, folder = finished
    for name in ("spec.yaml", "report.html", "report.md", "results.json", "run.json"):
        if name != "spec.yaml":  # written by the command
            assert (folder.root / name).stat().st_size > 0
    for stage in plan.order:
        directory = folder.stage(stage)
        assert (directory / "resolved.yaml").is_file()
        assert json.loads((directory / "done.json").read_text())["digest"] == stage.digest
        if stage.spec.kind == "train":
            assert (directory / "model" / "model.safetensors").is_file()
            assert len((directory / "metrics.jsonl").read_text().splitlines()) >= stage.spec.steps
            Image.open(directory / "samples" / f"step-{stage.spec.steps:06d}.png").verify()
    measure = folder.stage(plan.stages["a"]["measure"])
    assert {path.name for path in (measure / "figures").glob("*.png")} >= {"dct-spectrum.png", "chop-off.png"}


def test_lines_of_metrics_have_the_promised_fields(finished):
    """Names that users and trackers rely on."""
    plan, folder = finished
    path = folder.stage(plan.stages["a"]["pretrain"]) / "metrics.jsonl"
    line = json.loads(path.read_text().splitlines()[-1])
    promised = {"step", "samples", "loss", "reconstruction", "kl", "scale-equivariance", "lr", "grad_norm"}
    assert promised | {"samples_per_s", "step_time_s"} <= set(line)
    assert line["samples"] == 12 * 4
    weighted = line["reconstruction"] + 1e-4 * line["kl"] + 0.25 * line["scale-equivariance"]
    assert line["loss"] == pytest.approx(weighted, rel=1e-5)


def test_results_hold_every_metric_of_every_variant(finished):
    """The table's source, in its documented form."""
    _, folder = finished
    results = json.loads((folder.root / "results.json").read_text())
    for variant in ("a", "b"):
        psnr = results["variants"][variant]["measure"]["psnr"]
        assert psnr["unit"] == "dB"
        assert psnr["higher_is_better"] is True
        assert psnr["num_samples"] == 16
        curve = results["variants"][variant]["measure"]["latent_spectrum_curve"]["curve"]
        assert len(curve["x"]) == len(curve["y"]) > 10
        generated = results["variants"][variant]["generate"]["sliced_wasserstein"]
        assert generated["value"] > 0
        assert generated["spec"]["sampler"] | {"kind": "euler", "steps": 3} == generated["spec"]["sampler"]
        assert generated["spec"]["sampler"]["guidance_scale"] == 1.0
        assert generated["spec"]["precision"] == "fp32"


def test_two_ranks_evaluate_as_one(finished, tmp_path):
    """The evaluation stages of the finished run once more, on two processes, on the same models: every number, every
    curve and the grid of samples, up to the order of sums."""
    plan, folder = finished
    shutil.copytree(folder.root, tmp_path / "tiny")
    for name in ("measure", "generate"):
        for path in tmp_path.glob(f"tiny/stages/{name}-*"):
            shutil.rmtree(path)
    content = tiny_spec() | {"variants": {"a": {}, "b": {"stages.dit.optimizer.lr": 2.0e-3}}}
    dfz("run", write_spec(tmp_path, content), "--runs", tmp_path, "--nproc", 2)
    for name in ("measure", "generate"):
        ours, theirs = (
            root / folder.stage(plan.stages["a"][name]).relative_to(folder.root)
            for root in (tmp_path / "tiny", folder.root)
        )
        actual, expected = (json.loads((path / "results.json").read_text()) for path in (ours, theirs))
        assert actual.keys() == expected.keys()
        for metric, entry in expected.items():
            assert actual[metric].keys() == entry.keys()
            for key in {"value", "spread"} & entry.keys():
                assert actual[metric][key] == pytest.approx(entry[key], rel=1e-6)
            if "curve" in entry:
                assert actual[metric]["curve"]["y"] == pytest.approx(entry["curve"]["y"], rel=1e-6)
            assert actual[metric]["num_samples"] == entry["num_samples"]
            assert actual[metric]["spec"] == entry["spec"]
    grids = [np.asarray(Image.open(path / "samples" / "samples.png")).astype(int) for path in (ours, theirs)]
    assert abs(grids[0] - grids[1]).max() <= 1


def test_equal_stages_ran_once(finished):
    """Two variants: one pretraining, one encoding, two denoisers."""
    _, folder = finished
    names = sorted(path.name.rpartition("-")[0] for path in (folder.root / "stages").iterdir())
    assert names == ["dit", "dit", "encode", "generate", "generate", "measure", "pretrain"]


def test_a_second_run_does_nothing_and_a_change_redoes_what_depends_on_it(finished, tmp_path):
    """Modification times before and after; then a new seed of the sampler's stage only."""
    plan, folder = finished
    content = tiny_spec()
    content["variants"] = {"a": {}, "b": {"stages.dit.optimizer.lr": 2.0e-3}}
    before = {stage.directory_name: (folder.stage(stage) / "done.json").stat().st_mtime_ns for stage in plan.order}
    run_here(write_spec(tmp_path, content), folder.root.parent)
    after = {stage.directory_name: (folder.stage(stage) / "done.json").stat().st_mtime_ns for stage in plan.order}
    assert before == after
    changed, _ = run_here(write_spec(tmp_path, content), folder.root.parent, "stages.generate.sampler.steps=2")
    redone = {stage.directory_name for stage in changed.order} - set(before)
    assert {name.rpartition("-")[0] for name in redone} == {"generate"}


def test_in_training_evaluation_is_logged(finished):
    """Every third of six steps, on the averaged weights."""
    plan, folder = finished
    lines = (folder.stage(plan.stages["a"]["dit"]) / "metrics.jsonl").read_text().splitlines()
    evaluated = [line for line in map(json.loads, lines) if "eval/sliced_wasserstein" in line]
    assert [line["step"] for line in evaluated] == [3, 6]


def test_unreadable_images_are_named_and_counted(tmp_path):
    """A truncated JPEG and a text file called .png among good ones: the run goes on, and says so."""
    images = tmp_path / "images"
    images.mkdir()
    for index in range(20):
        Image.effect_noise((48, 40), 40 + index).convert("RGB").save(images / f"{index:02d}.jpg")
    whole = (images / "03.jpg").read_bytes()
    (images / "03.jpg").write_bytes(whole[: len(whole) // 3])
    (images / "text.png").write_text("no image")
    content = tiny_spec()
    content["data"] = {"kind": "image-folder", "path": str(images), "resolution": 32, "num_workers": 1}
    content["data"] |= {"validation_share": 0.2, "max_unreadable_share": 0.5}
    content["stages"] = {name: content["stages"][name] for name in ("pretrain", "encode")}
    content["stages"]["encode"].pop("num_samples")
    plan, folder = run_here(write_spec(tmp_path, content), tmp_path / "runs")
    stage = folder.stage(plan.stages["default"]["pretrain"])
    named = (stage / "unreadable.txt").read_text()
    assert "03.jpg" in named
    assert "text.png" in named
    last = json.loads((stage / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["num_unreadable"] == 2
    cache = json.loads((folder.stage(plan.stages["default"]["encode"]) / "latents" / "cache.json").read_text())
    dataset = plan.stages["default"]["encode"].data.build(BuildContext(), "train")
    assert sum(cache["shard_sizes"]) == len(dataset) - 2


def test_too_many_unreadable_images_stop_the_run(tmp_path):
    """Half of the files are broken, a tenth is allowed."""
    images = tmp_path / "images"
    images.mkdir()
    for index in range(12):
        Image.effect_noise((48, 40), 60).convert("RGB").save(images / f"good{index:02d}.png")
        (images / f"bad{index:02d}.png").write_bytes(b"\x89PNG broken")
    content = tiny_spec()
    content["data"] = {"kind": "image-folder", "path": str(images), "resolution": 32, "num_workers": 0}
    result = dfz("run", write_spec(tmp_path, content), "--runs", tmp_path / "runs", check_code=1)
    assert "cannot be read, more than the share 0.1" in result.stderr
    assert "Traceback" not in result.stderr


def test_bad_specs_write_nothing_and_exit_with_2(tmp_path):
    """The command itself, over the kinds of mistakes: exit status, no traceback, no folder."""
    good = tiny_spec()
    cases = {
        "not YAML": "a: [1",
        "unknown key": {**good, "stagess": {}},
        "missing data": {**good, "data": {"kind": "image-folder", "path": str(tmp_path / "absent")}},
        "later stage": {**good, "stages": dict(reversed(good["stages"].items()))},
    }
    for name, content in cases.items():
        path = tmp_path / "bad.yaml"
        if isinstance(content, str):
            path.write_text(content)
        else:
            path = write_spec(tmp_path, content)
        result = dfz("run", path, "--runs", tmp_path / "runs", check_code=2)
        assert result.stderr.startswith("error:"), name
        assert "Traceback" not in result.stderr + result.stdout
        assert not (tmp_path / "runs").exists()


def test_debug_shows_the_traceback(tmp_path):
    """The same mistake with --debug."""
    (tmp_path / "bad.yaml").write_text("a: [1")
    assert "Traceback" in dfz("--debug", "run", tmp_path / "bad.yaml", check_code=2).stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_whole_process_group_saves(tmp_path, sent):
    """As Ctrl-C in a terminal and ``timeout`` send it: data loading processes must not die of it."""
    content = tiny_spec()
    content["data"]["num_workers"] = 2
    pretrain = content["stages"]["pretrain"] | {"steps": 4000, "preview": None, "checkpoint": {"every": 4000}}
    content["stages"] = {"pretrain": pretrain}
    path = write_spec(tmp_path, content)
    process = start_dfz("run", path, "--runs", tmp_path, new_session=True)
    deadline = time.monotonic() + 120
    while not any(log.stat().st_size for log in tmp_path.glob("tiny/stages/*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, sent)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75, output
    assert "saved at step" in output
    assert list(tmp_path.glob("tiny/stages/*/checkpoints/step-*"))


def test_a_second_process_in_the_same_folder_is_refused(tmp_path):
    """While one run trains, another is turned away with exit status 2; after a kill, the lock is free."""
    content = tiny_spec()
    content["stages"]["pretrain"]["steps"] = 100_000
    path = write_spec(tmp_path, content)
    first = start_dfz("run", path, "--runs", tmp_path / "runs")
    try:
        wait_for(tmp_path / "runs" / "tiny" / "run.json")
        refused = dfz("run", path, "--runs", tmp_path / "runs", check_code=2)
        assert f"pid {first.pid}" in refused.stderr
    finally:
        first.kill()
        first.wait()
    second = start_dfz("run", path, "--runs", tmp_path / "runs")
    time.sleep(1)
    second.send_signal(signal.SIGTERM)
    output, _ = second.communicate(timeout=120)
    assert second.returncode != 2, output


def wait_for(path, seconds=120):
    """Waits until a file exists."""
    for _ in range(seconds * 10):
        if Path(path).exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")
