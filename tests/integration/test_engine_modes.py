"""Offload, rounded weights, activation checkpointing and compilation, on an autoencoder and on a DiT."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_runs import dfz, metrics, run_here, tiny_spec, write_spec

from diffusability.core.engine import distributed
from diffusability.core.engine.blocks import prepare_blocks
from diffusability.core.errors import SpecError
from diffusability.core.specs.engine import EngineSpec

pytestmark = pytest.mark.integration

STAGES = ("pretrain", "dit")


def short_spec():
    """The tiny spec's two training stages, cut short. The autoencoder's regularizer decodes twice a step."""
    content = tiny_spec()
    content["stages"] = {name: content["stages"][name] for name in ("pretrain", "encode", "dit")}
    content["stages"]["pretrain"] |= {"steps": 6, "checkpoint": {"every": 4, "keep": 2}}
    content["stages"]["dit"] |= {"steps": 4, "evaluate": None}
    return content


def losses(runs):
    """The losses of both training stages, by step."""
    return {stage: [line["loss"] for line in metrics(runs / "tiny", stage)] for stage in STAGES}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The spec file."""
    return write_spec(tmp_path_factory.mktemp("spec"), short_spec())


@pytest.fixture(scope="module")
def plain(path, tmp_path_factory):
    """Losses in float32 without anything special, which other tests hold against plain torch."""
    runs = tmp_path_factory.mktemp("plain")
    run_here(path, runs)
    return losses(runs)


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_activation_checkpointing_changes_no_loss(tmp_path, path, plain, zero_stage):
    """Also where weights are gathered for each use, and where a regularizer runs the decoder a second time."""
    run_here(path, tmp_path, f"engine.zero_stage={zero_stage}", "engine.activation_checkpointing=true")
    checkpointed = losses(tmp_path)
    for stage in STAGES:
        assert checkpointed[stage] == pytest.approx(plain[stage], rel=1e-6)


def test_activation_checkpointing_keeps_no_activations_of_blocks():
    """Bytes that autograd saves in a forward pass of a block that repeats, with and without; gradients are equal."""

    class Deep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList(
                torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.GELU(), torch.nn.Linear(64, 8)) for _ in range(3)
            )

        def repeated_blocks(self):
            return self.blocks

    measured = {}
    for asked in (False, True):
        torch.manual_seed(0)
        model = Deep()
        prepare_blocks(model, EngineSpec(activation_checkpointing=asked))
        saved = []
        images = torch.randn(16, 8)

        def note(tensor, saved=saved):
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            for block in model.blocks:
                images = block(images)
        images.square().sum().backward()
        measured[asked] = sum(saved), [parameter.grad for parameter in model.parameters()]
    assert measured[True][0] < measured[False][0] / 4
    assert all(ours.equal(theirs) for ours, theirs in zip(measured[True][1], measured[False][1], strict=True))


def test_what_has_no_blocks_is_refused():
    """A task whose modules list none, and a setting that needs them."""
    for setting in ("activation_checkpointing", "compile"):
        with pytest.raises(SpecError, match=rf"engine\.{setting} is true, but no part of what is trained lists"):
            prepare_blocks(torch.nn.Linear(2, 2), EngineSpec.model_validate({setting: True}))


@pytest.mark.parametrize("zero_stage", [1, pytest.param(2, marks=pytest.mark.slow), 3])
def test_bf16_weights_train_with_float32_masters(tmp_path, path, plain, zero_stage):
    """Losses near float32's, equal at every ZeRO stage; the model that is saved is not rounded to bf16."""
    run_here(path, tmp_path, "engine.precision=bf16-weights", f"engine.zero_stage={zero_stage}")
    in_bf16 = losses(tmp_path)
    for stage in STAGES:
        assert in_bf16[stage] == pytest.approx(plain[stage], rel=1e-2)
        assert in_bf16[stage] != pytest.approx(plain[stage], rel=1e-6)
        (file,) = tmp_path.glob(f"tiny/stages/{stage}-*/model/*.safetensors")
        rounded = [value.equal(value.bfloat16().float()) for value in load_file(file).values() if value.ndim > 1]
        assert not any(rounded)


def test_bf16_weights_resume_at_another_stage(tmp_path, path):
    """Masters and moments from pieces of a flat tensor (ZeRO 1) into shards (ZeRO 3): the losses of no interruption."""
    settings = ["engine.precision=bf16-weights", "stages.pretrain.ema=null"]
    run_here(path, tmp_path, *settings, "engine.zero_stage=1", until="pretrain")
    before = metrics(tmp_path / "tiny", "pretrain")
    (stage,) = tmp_path.glob("tiny/stages/pretrain-*")
    (stage / "done.json").unlink()
    shutil.rmtree(stage / "checkpoints" / "step-00000006")
    with safe_open(stage / "checkpoints" / "step-00000004" / "rank-00000.safetensors", framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F32"}  # noqa: SIM118 - not a mapping
    run_here(path, tmp_path, *settings, "engine.zero_stage=3", until="pretrain")
    after = metrics(tmp_path / "tiny", "pretrain")
    assert [line["loss"] for line in after] == pytest.approx([line["loss"] for line in before], rel=1e-5)


def test_fp16_is_refused_without_cuda(tmp_path, path):
    """Before anything is written below the run."""
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(SpecError, match="precision 'fp16' needs a CUDA device, and this machine has none"):
        run_here(path, tmp_path, "engine.precision=fp16", "engine.zero_stage=1")
    assert not list(tmp_path.glob("tiny/stages/*"))


@pytest.mark.slow
def test_fp16_scales_its_loss_and_resumes_with_the_scale(tmp_path, path, plain, monkeypatch):
    """On a CPU that is said to support it, which shows the mechanism and not CUDA: losses near float32's, a scale that
    starts at 2^10 and overflows in no step, and a resume from ZeRO 3 at ZeRO 1 that goes on as if nothing had been."""
    from deepspeed.accelerator import get_accelerator

    monkeypatch.setattr("diffusability.core.stages.runner.require_devices", lambda engine: None)
    monkeypatch.setattr("diffusability.core.engine.deepspeed_engine.require_devices", lambda engine: None)
    distributed.start()
    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda self: True)
    settings = ["engine.precision=fp16", "engine.deepspeed={fp16: {initial_scale_power: 10}}"]
    run_here(path, tmp_path, *settings, "engine.zero_stage=3", until="pretrain")
    before = metrics(tmp_path / "tiny", "pretrain")
    assert [line["loss"] for line in before] == pytest.approx(plain["pretrain"], rel=1e-2)
    assert before[-1]["num_skipped"] == 0
    (stage,) = tmp_path.glob("tiny/stages/pretrain-*")
    counters = json.loads((stage / "checkpoints" / "step-00000004" / "engine.json").read_text())
    assert counters["loss_scaler"]["cur_scale"] == 2**10
    (stage / "done.json").unlink()
    shutil.rmtree(stage / "checkpoints" / "step-00000006")
    run_here(path, tmp_path, *settings, "engine.zero_stage=1", until="pretrain")
    after = metrics(tmp_path / "tiny", "pretrain")
    assert [line["loss"] for line in after] == pytest.approx([line["loss"] for line in before], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zero_stage", "offload"),
    [
        (1, "{optimizer: cpu}"),
        (2, "{optimizer: cpu}"),
        (3, "{optimizer: cpu, parameters: cpu}"),
        (3, "{optimizer: nvme, nvme_path: DISK}"),
        (3, "{optimizer: nvme, parameters: nvme, nvme_path: DISK}"),
    ],
)
def test_offload_changes_no_loss(tmp_path, path, plain, zero_stage, offload):
    """DeepSpeed's CPU Adam, states and weights on the CPU or on disk, against neither; then resumed without offload.

    Slow, because DeepSpeed compiles its operators at first use.
    """
    from deepspeed.ops.op_builder import AsyncIOBuilder

    if "nvme" in offload and not AsyncIOBuilder().is_compatible():
        pytest.skip("DeepSpeed's asynchronous I/O needs libaio")
    (tmp_path / "disk").mkdir()
    offloaded = f"engine.offload={offload.replace('DISK', str(tmp_path / 'disk'))}"
    run_here(path, tmp_path, f"engine.zero_stage={zero_stage}", offloaded)
    with_offload = losses(tmp_path)
    for stage in STAGES:
        assert with_offload[stage] == pytest.approx(plain[stage], rel=1e-5)
    for stage in tmp_path.glob("tiny/stages/*"):
        (stage / "done.json").unlink()
    (last,) = tmp_path.glob("tiny/stages/dit-*/checkpoints/step-00000004")
    shutil.rmtree(last)
    run_here(path, tmp_path)
    assert losses(tmp_path)["dit"] == pytest.approx(plain["dit"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 1, 3])
def test_compiled_blocks_train_resume_and_save_under_the_same_names(tmp_path, path, plain, zero_stage):
    """In a process without type checking, which breaks compilation: losses of eager training, before and after."""
    arguments = ["run", path, "--runs", tmp_path, "--set", f"engine.zero_stage={zero_stage}"]
    dfz(*arguments, "--set", "engine.compile=true", "--set", "engine.activation_checkpointing=true")
    compiled = losses(tmp_path)
    for stage in STAGES:
        assert compiled[stage] == pytest.approx(plain[stage], rel=1e-4)
    (stage,) = tmp_path.glob("tiny/stages/dit-*")
    names = set(load_file(next((stage / "model").glob("*.safetensors"))))
    assert not any("_orig_mod" in name for name in names)
    (stage / "done.json").unlink()
    shutil.rmtree(stage / "checkpoints" / "step-00000004")
    result = dfz(*arguments, "--set", "engine.compile=true")
    assert "resumes after step 2" in result.stdout
    assert losses(tmp_path)["dit"] == pytest.approx(compiled["dit"], rel=1e-5)
    assert set(load_file(next((stage / "model").glob("*.safetensors")))) == names
