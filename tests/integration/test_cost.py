"""What a spec costs before it runs, against closed forms, hand counts, real runs and published numbers."""

from pathlib import Path

import pytest
import torch
import yaml
from tiny_runs import dfz
from torch import nn
from torch.profiler import ProfilerActivity, profile

from diffusability.core.contracts.objective import Batch
from diffusability.core.cost.amounts import Flops, UnknownCost
from diffusability.core.cost.devices import DEVICES, device_named
from diffusability.core.cost.inference_cost import autoencoder_cost, sampling_cost
from diffusability.core.cost.pass_meter import PassMeter
from diffusability.core.cost.stage_cost import CostEstimator
from diffusability.core.cost.stand_ins import ShapeRandomness, is_stand_in, stand_in, weights_without_content
from diffusability.core.cost.training_cost import step_cost, trained_without_content
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import SpecError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.planning.plan import load_plan
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec, DenoiserSpec, ObjectiveSpec, SamplerSpec

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (4, 32, 32)
COMPACT = {"kind": "compact-kl", "latent_channels": 4, "width": 32, "blocks": 1, "spatial_factor": 4}


def plan_of(tmp_path, **stages):
    """Stages of 64-pixel photographs, in order, at bf16."""
    path = tmp_path / "spec.yaml"
    content = {
        "name": "cost",
        "data": {"kind": "sample-photos", "resolution": 64},
        "engine": {"precision": "bf16"},
        "stages": stages,
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return {stage.name: stage for stage in load_plan(path).order}


def training(batch_size=8, steps=100, autoencoder=COMPACT, **more):
    return {
        "kind": "train",
        "objective": {"kind": "reconstruction", "autoencoder": autoencoder},
        "batch_size": batch_size,
        "steps": steps,
        **more,
    }


def denoising(size="Ti/2", batch_size=8, steps=100, **more):
    return {
        "kind": "train",
        "data": {"kind": "latents", "stage": "encode"},
        "objective": {"kind": "flow-matching", "denoiser": {"kind": "dit", "size": size}},
        "batch_size": batch_size,
        "steps": steps,
        **more,
    }


ENCODE = {"kind": "encode", "autoencoder": {"kind": "stage", "stage": "ae"}, "num_samples": 1000}


def forward_flops(module, *args):
    with torch.no_grad(), PassMeter() as meter:
        module(*args)
    return meter.flops.total


def dit(size, **options):
    spec = DenoiserSpec.model_validate({"kind": "dit", "size": size, **options})
    with weights_without_content():
        return spec.build(BuildContext(latent_shape=SHAPE, num_classes=1000))


def dit_closed_form(depth, width, patch, out_channels=4, channels=4, side=32):
    """Twice the multiply-adds of every product of a DiT (Peebles & Xie 2023, figure 3), for one sample."""
    tokens = (side // patch) ** 2
    block = 4 * width**2 + 8 * width**2  # queries, keys, values and projection; both layers of the MLP
    per_token = patch**2 * channels * width + depth * block + width * patch**2 * out_channels
    attention = depth * 2 * tokens**2 * width
    condition = 256 * width + width**2 + (6 * depth + 2) * width**2
    return 2 * (tokens * per_token + attention + condition)


@pytest.mark.parametrize(("size", "depth", "width"), [("S/2", 12, 384), ("B/4", 12, 768)])
def test_a_dit_costs_what_its_matrices_do(size, depth, width):
    """Against the closed form, exactly."""
    counted = forward_flops(dit(size), stand_in((3, *SHAPE)), torch.full((3,), 0.5), torch.zeros(3, dtype=torch.long))
    assert counted == 3 * dit_closed_form(depth, width, int(size[-1]))


def test_dit_xl_2_costs_what_is_published():
    """118.64 billion multiply-adds for an image of 256 pixels (Peebles & Xie 2023, table 4)."""
    model = dit("XL/2", learn_sigma=True)
    counted = forward_flops(model, stand_in((1, *SHAPE)), torch.full((1,), 0.5), torch.zeros(1, dtype=torch.long))
    assert counted / 2e9 == pytest.approx(118.64, rel=2e-3)


def hand_count(module, run):
    """Twice the multiply-adds of convolutions and linear maps, by hooks on a real module."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        per_output = layer.weight[0].numel()
        total += 2 * output.numel() * per_output

    hooks = [
        layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("spec", [COMPACT, {"kind": "sd", "width": 32}])
def test_an_autoencoder_costs_what_its_convolutions_do(spec):
    """Encoder and decoder apart, against hooks on the real module; of sd, with the attention of its middle added."""
    spec = AutoencoderSpec.model_validate(spec)
    cost = autoencoder_cost(spec, BuildContext(untrained=True), (3, 64, 64), 2)
    real = spec.build(BuildContext()).eval()
    latents = torch.zeros(
        2, 4, 64 // spec.info(BuildContext()).spatial_factor, 64 // spec.info(BuildContext()).spatial_factor
    )
    attention = 0
    if spec.kind == "sd":
        places, channels = 8 * 8, 4 * spec.width
        attention = 2 * 2 * places**2 * channels
    assert cost.encode.total == hand_count(real, lambda: real.encode(torch.zeros(2, 3, 64, 64))) / 2 + attention
    assert cost.decode.total == hand_count(real, lambda: real.decode(latents)) / 2 + attention


OBJECTIVES = {
    "compact-kl": ({"kind": "reconstruction", "autoencoder": COMPACT}, (3, 64, 64)),
    "dit": ({"kind": "flow-matching", "denoiser": {"kind": "dit", "size": "Ti/4"}}, SHAPE),
}


def task_of(name, dtype):
    spec, shape = OBJECTIVES[name]
    context = BuildContext(latent_shape=SHAPE, num_classes=10)
    return TrainTask(ObjectiveSpec.model_validate(spec).build(context), {}, [], dtype), shape


def backward(task, shape, fake, batch_size=4):
    make = ShapeRandomness if fake else BatchRandomness
    data = stand_in((batch_size, *shape)) if fake else torch.zeros(batch_size, *shape)
    labels = torch.zeros(batch_size, dtype=torch.long)
    task(Batch(data=data, labels=labels, randomness=make(seed=0, step=0, positions=range(batch_size)))).loss.backward()
    for parameter in task.parameters():
        parameter.grad = None


@pytest.mark.parametrize("name", list(OBJECTIVES))
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_stand_ins_cost_what_real_tensors_do(name, dtype):
    """Operations exactly, and the largest memory within 3% (noise is drawn sample by sample for real)."""
    with weights_without_content():
        fake, shape = task_of(name, dtype)
    assert all(is_stand_in(parameter) for parameter in fake.parameters())
    with PassMeter() as counted:
        backward(fake, shape, fake=True)
    real, _ = task_of(name, dtype)
    with PassMeter() as measured:
        backward(real, shape, fake=False)
    assert counted.flops == measured.flops
    assert counted.peak == pytest.approx(measured.peak, rel=0.03)
    assert counted.live == 0


def test_memory_is_what_torch_allocates():
    """The largest memory between forward and backward pass, against the allocations that torch's profiler records."""
    with weights_without_content():
        fake, shape = task_of("compact-kl", torch.bfloat16)
    for parameter in fake.parameters():
        parameter.register_post_accumulate_grad_hook(lambda parameter: setattr(parameter, "grad", None))
    with PassMeter() as counted:
        backward(fake, shape, fake=True)
    real, _ = task_of("compact-kl", torch.bfloat16)
    for parameter in real.parameters():
        parameter.register_post_accumulate_grad_hook(lambda parameter: setattr(parameter, "grad", None))
    backward(real, shape, fake=False)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        backward(real, shape, fake=False)
    allocated = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            allocated += event.nbytes()
            peak = max(peak, allocated)
    assert counted.peak == pytest.approx(peak, rel=0.1)


def test_saved_activations_are_part_of_the_memory():
    """What the hooks of autograd see saved on the CPU, each storage once and without parameters, fits into the peak."""
    real, shape = task_of("compact-kl", None)
    own = {parameter.untyped_storage().data_ptr() for parameter in real.parameters()}
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = (tensor, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backward(real, shape, fake=False)
    total = sum(size for pointer, (_, size) in saved.items() if pointer not in own)
    with weights_without_content():
        fake, _ = task_of("compact-kl", None)
    with PassMeter() as counted:
        backward(fake, shape, fake=True)
    assert total <= counted.peak <= 2 * total


def test_cost_grows_with_the_batch(tmp_path):
    """Operations of a step in proportion; memory follows the micro batch alone."""
    stages = {
        f"s{batch}": training(batch_size=batch, engine={"precision": "bf16", "micro_batch_size": micro})
        for batch, micro in ((4, 4), (8, 8), (16, 8))
    }
    four, eight, sixteen = (step_cost(stage, 1) for stage in plan_of(tmp_path, **stages).values())
    assert eight.flops.total == 2 * four.flops.total
    assert sixteen.flops.total == 4 * four.flops.total
    assert four.activation_bytes < eight.activation_bytes == sixteen.activation_bytes


def test_ranks_share_the_operations_and_the_batch(tmp_path):
    """Two ranks compute as much together, each with the activations of half of the batch."""
    (stage,) = plan_of(tmp_path, s=training(batch_size=8)).values()
    alone, shared = step_cost(stage, 1), step_cost(stage, 2)
    assert alone.flops == shared.flops
    assert shared.activation_bytes < 0.6 * alone.activation_bytes


def test_recomputed_activations_take_time_instead_of_memory(tmp_path):
    """A third more operations at most, and less than half of the memory, for a DiT."""
    stages = plan_of(
        tmp_path,
        ae=training(),
        encode=ENCODE,
        kept=denoising(),
        recomputed=denoising(engine={"precision": "bf16", "activation_checkpointing": True}),
    )
    kept, recomputed = step_cost(stages["kept"], 1), step_cost(stages["recomputed"], 1)
    assert 1.2 < recomputed.flops.total / kept.flops.total < 4 / 3 + 0.01
    assert recomputed.activation_bytes < kept.activation_bytes / 2


@pytest.mark.parametrize("cuda", [False, True])
def test_recomputed_activations_have_the_types_of_the_first_ones(tmp_path, cuda):
    """Torch refuses others. Of an autoencoder whose norms are computed in float32 on CUDA alone."""
    stages = plan_of(
        tmp_path,
        kept=training(),
        recomputed=training(engine={"precision": "bf16", "activation_checkpointing": True}),
    )
    kept, recomputed = (step_cost(stages[name], 1, cuda) for name in ("kept", "recomputed"))
    assert 1.1 < recomputed.flops.total / kept.flops.total < 4 / 3
    assert recomputed.activation_bytes < kept.activation_bytes


def test_norms_take_more_memory_under_autocast_of_cuda(tmp_path):
    """There they are computed in float32, on CPUs in bf16; operations are the same."""
    (stage,) = plan_of(tmp_path, s=training()).values()
    cuda, cpu = step_cost(stage, 1, cuda=True), step_cost(stage, 1, cuda=False)
    assert cuda.flops == cpu.flops
    assert cuda.activation_bytes > 1.2 * cpu.activation_bytes


def test_scale_equivariance_decodes_a_quarter_more(tmp_path):
    """At factor 2, a quarter of the decoder, forward and backward: both gradients, three times its forward pass."""
    regularizer = {"kind": "scale-equivariance", "factors": [2]}
    stages = plan_of(tmp_path, plain=training(), se=training(regularizers=[regularizer]))
    plain, se = step_cost(stages["plain"], 1), step_cost(stages["se"], 1)
    assert se.notes == ()
    more = se.flops.total - plain.flops.total
    spec = AutoencoderSpec.model_validate(COMPACT)
    decode = autoencoder_cost(spec, BuildContext(untrained=True), (3, 32, 32), 8).decode.total
    assert more == pytest.approx(8 * 3 * decode, rel=1e-6)


def test_regularizers_count_while_they_act(tmp_path):
    """A term that starts half way costs half as much on the average."""
    regularizer = {"kind": "scale-equivariance", "factors": [2]}
    late = {**regularizer, "schedule": {"start": 50}}
    stages = plan_of(
        tmp_path, plain=training(), se=training(regularizers=[regularizer]), late=training(regularizers=[late])
    )
    plain, whole, half = (step_cost(stages[name], 1).flops.total for name in ("plain", "se", "late"))
    assert whole > plain
    assert half - plain == pytest.approx((whole - plain) / 2)


def test_an_adversarial_loss_costs_the_discriminator_too(tmp_path):
    stages = plan_of(tmp_path, plain=training(), adversarial=training(adversarial={"start_step": 0}))
    plain, adversarial = step_cost(stages["plain"], 1), step_cost(stages["adversarial"], 1)
    assert adversarial.flops.total > plain.flops.total
    assert adversarial.num_trained > plain.num_trained


@pytest.mark.parametrize(
    ("sampler", "evaluations"),
    [
        ({"kind": "euler", "steps": 10}, 10),
        ({"kind": "euler", "steps": 10, "guidance_scale": 2.0}, 20),
        ({"kind": "heun", "steps": 10}, 19),
    ],
)
def test_sampling_costs_its_evaluations(tmp_path, sampler, evaluations):
    """Steps times one evaluation of the denoiser; two of them with guidance."""
    stages = plan_of(tmp_path, ae=training(), encode=ENCODE, dit=denoising())
    model = trained_without_content(stages["dit"]).task.objective.diffusion_model()
    cost = sampling_cost(model, SamplerSpec.model_validate(sampler), batch_size=4)
    evaluation = forward_flops(
        model.denoiser.eval(),
        stand_in((1, *model.latent_shape)),
        torch.full((1,), 0.5),
        torch.zeros(1, dtype=torch.long),
    )
    assert cost.flops.total == pytest.approx(evaluations * evaluation)


def test_stages_of_all_kinds(tmp_path):
    """Training times its steps; encoding of both flips; evaluation of the most samples that evaluators ask for."""
    evaluators = [{"kind": "psnr", "num_samples": 32}, {"kind": "kl-per-dim", "num_samples": 64}]
    generate = {
        "kind": "evaluate",
        "denoiser": {"kind": "stage", "stage": "dit"},
        "sampler": {"kind": "euler", "steps": 5},
        "evaluators": [{"kind": "sliced-wasserstein", "num_samples": 50}],
    }
    measure = {"kind": "evaluate", "autoencoder": {"kind": "stage", "stage": "ae"}, "evaluators": evaluators}
    stages = plan_of(tmp_path, ae=training(), encode=ENCODE, measure=measure, dit=denoising(), generate=generate)
    estimator = CostEstimator()
    costs = {name: estimator.cost(stage) for name, stage in stages.items()}
    assert all(cost.notes == () and cost.flops.total > 0 and cost.memory_bytes > 0 for cost in costs.values())
    spec = AutoencoderSpec.model_validate(COMPACT)
    per_image = autoencoder_cost(spec, BuildContext(untrained=True), (3, 64, 64), 1)
    assert costs["encode"].flops.total == pytest.approx(2 * 1000 * per_image.encode.total)
    assert costs["measure"].flops.total == pytest.approx(64 * per_image.encode.total + 32 * per_image.decode.total)
    assert costs["ae"].flops.total == pytest.approx(100 * step_cost(stages["ae"], 1).flops.total)
    assert costs["generate"].flops.single == pytest.approx(50 * per_image.decode.total)  # decodes in float32


def test_evaluations_in_training_are_counted(tmp_path):
    """Four rounds of 16 images that are encoded and decoded."""
    evaluate = {"every": 25, "evaluators": [{"kind": "psnr", "num_samples": 16}]}
    stages = plan_of(tmp_path, plain=training(), evaluated=training(evaluate=evaluate))
    estimator = CostEstimator()
    more = estimator.cost(stages["evaluated"]).flops.total - estimator.cost(stages["plain"]).flops.total
    per_image = autoencoder_cost(AutoencoderSpec.model_validate(COMPACT), BuildContext(untrained=True), (3, 64, 64), 1)
    assert more == pytest.approx(4 * 16 * (per_image.encode.total + per_image.decode.total))


def test_published_weights_are_neither_read_nor_fetched(tmp_path, monkeypatch):
    """A preset on the hub costs what its published configuration does; an unknown model on the hub is not known."""
    import huggingface_hub

    def refuse(*args, **kwargs):
        raise AssertionError("something was fetched")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    cost = autoencoder_cost(
        AutoencoderSpec.model_validate({"kind": "sd", "path": "stabilityai/sd-vae-ft-mse"}),
        BuildContext(untrained=True),
        (3, 64, 64),
        1,
    )
    fresh = autoencoder_cost(
        AutoencoderSpec.model_validate({"kind": "sd"}), BuildContext(untrained=True), (3, 64, 64), 1
    )
    assert cost == fresh
    stages = plan_of(
        tmp_path,
        encode={"kind": "encode", "autoencoder": {"kind": "sd", "path": "stabilityai/sd-vae-ft-mse"}, "num_samples": 8},
        dit=denoising(),
    )
    estimator = CostEstimator()
    assert estimator.cost(stages["dit"]).flops.total > 0
    assert estimator.cost(stages["encode"]).flops.total == pytest.approx(2 * 8 * fresh.encode.total)
    unknown = AutoencoderSpec.model_validate({"kind": "diffusers", "path": "nobody/nothing"})
    with pytest.raises(UnknownCost, match="'diffusers' cannot be built without its weights"):
        autoencoder_cost(unknown, BuildContext(untrained=True), (3, 64, 64), 1)


def test_a_perceptual_loss_is_counted_without_its_weights(tmp_path):
    """VGG16's convolutions in float32, on images and reconstruction, and back to the reconstruction."""
    lpips = {"kind": "lpips", "network": "vgg", "weights": "/nowhere.pth"}
    objective = {"kind": "reconstruction", "autoencoder": COMPACT, "perceptual": lpips}
    (stage,) = plan_of(tmp_path, s={**training(), "objective": objective}).values()
    sides, channels = [64, 64, 32, 32, 16, 16, 16, 8, 8, 8, 4, 4, 4], [3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    forward = sum(
        2 * side**2 * 9 * ins * outs for side, ins, outs in zip(sides, channels[:-1], channels[1:], strict=True)
    )
    assert step_cost(stage, 1).flops.single == pytest.approx(8 * 3 * forward, rel=0.01)


def test_what_cannot_be_told_is_said(tmp_path):
    """A regularizer with a feature network is left out by name; an encoding of all images of a folder has no number."""
    stages = plan_of(
        tmp_path,
        ae=training(regularizers=[{"kind": "representation-alignment", "features": {"kind": "efficientnet-lite0"}}]),
    )
    cost = CostEstimator().cost(stages["ae"])
    assert cost.flops is not None
    assert any("representation-alignment" in note and "weights" in note for note in cost.notes)
    folder = tmp_path / "photos"
    stages = plan_of(
        tmp_path,
        ae=training(),
        encode={
            "kind": "encode",
            "autoencoder": {"kind": "stage", "stage": "ae"},
            "data": {"kind": "image-folder", "path": str(folder), "resolution": 64},
        },
    )
    cost = CostEstimator().cost(stages["encode"])
    assert cost.flops is None
    assert cost.flops_per_sample.total > 0


def test_hours_of_a_device():
    """An hour is the peak rate times the share times 3600 seconds; each precision has its own rate."""
    h100 = DEVICES["h100"]
    assert Flops(low=989e12 * 3600).hours(h100, 1.0) == pytest.approx(1)
    assert Flops(low=989e12 * 3600, single=67e12 * 3600).hours(h100, 0.5) == pytest.approx(4)
    with pytest.raises(SpecError, match="unknown device 'h10'; did you mean 'h100'"):
        device_named("h10")


def check(*arguments, code=0):
    """``dfz check`` on 80 columns."""
    return dfz("check", *arguments, check_code=code, COLUMNS="80")


def test_the_command_prints_a_row_for_each_group_and_the_total(tmp_path):
    """On 80 columns; nothing is written; a device that is too small is warned of."""
    path = tmp_path / "spec.yaml"
    plan_of(tmp_path, ae=training(batch_size=200_000), encode=ENCODE, dit=denoising())
    result = check(path, "--cost", "--gpu", "a100", "--utilisation", "0.3", "--runs", tmp_path / "runs")
    assert "GPU-hours (A100, 30% of peak)" in result.stdout
    assert "memory" in result.stdout
    assert "ae: ≈" in result.stdout  # the warning
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert not (tmp_path / "runs").exists()


def test_the_command_refuses_an_unknown_device():
    result = check(ROOT / "examples" / "quickstart.yaml", "--cost", "--gpu", "b200x", code=2)
    assert "unknown device 'b200x'" in result.stderr
