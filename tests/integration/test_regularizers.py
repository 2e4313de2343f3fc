"""Regularizers in whole stages: with parameters and adapting weights at every ZeRO stage, on two ranks, resumed."""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import dfz, metrics, run_here, tiny_spec, write_spec

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import SpecError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import load_plan
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import ObjectiveSpec, RegularizerSpec

pytestmark = pytest.mark.integration

#: With a parameter, with a weight that follows a target, and two of one kind that share a decoding.
COMPOSED = [
    {"kind": "latent-masking", "ratios": [0.25, 0.5], "probabilities": [0.4, 0.4], "weight": 0.5},
    {"kind": "kl", "target": 0.5, "adaptation": 0.2, "weight": 1.0e-3},
    {"kind": "decoder-lipschitz", "weight": 0.01},
    {"kind": "scale-equivariance", "factors": [2], "schedule": {"start": 2, "ramp": 3}},
    {"kind": "scale-equivariance", "name": "late", "factors": [2], "schedule": {"start": 5}},
]


def composed(steps=7, **fields):
    content = tiny_spec()
    content["stages"] = {
        "pretrain": content["stages"]["pretrain"] | {"regularizers": COMPOSED, "steps": steps, **fields}
    }
    return content


@pytest.fixture(scope="module")
def unsharded(tmp_path_factory):
    """The composed stage on one rank without sharding."""
    folder = tmp_path_factory.mktemp("unsharded")
    return run_here(write_spec(folder, composed()), folder / "runs")[1].root


def weights_of(run):
    (path,) = run.glob("stages/pretrain-*/model/model.safetensors")
    return load_file(path)


def test_each_has_its_line_in_the_metrics(unsharded):
    """Names, also of two of one kind, the adapting factor, and the schedule: no line before the start."""
    lines = [line for line in metrics(unsharded, "pretrain") if "loss" in line]
    assert {"latent-masking", "kl", "kl_factor", "decoder-lipschitz"} <= set(lines[0])
    assert "scale-equivariance" not in lines[1]
    assert "late" not in lines[4]
    assert lines[5]["late"] == lines[5]["scale-equivariance"]
    assert lines[-1]["kl_factor"] > lines[0]["kl_factor"] == 1


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_every_zero_stage_trains_alike(tmp_path, unsharded, zero_stage):
    """Every term and factor of every step against the run without sharding, and the average of the weights."""
    _, folder = run_here(write_spec(tmp_path, composed()), tmp_path / "runs", f"engine.zero_stage={zero_stage}")
    for ours, theirs in zip(metrics(folder.root, "pretrain"), metrics(unsharded, "pretrain"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert set(weights_of(folder.root)) == set(weights_of(unsharded))


def test_two_ranks_train_as_one(tmp_path, unsharded):
    """Two processes at ZeRO stage 3 and micro batches of one, against one process with whole batches."""
    path = write_spec(tmp_path, composed())
    sharded = ("--set", "engine.zero_stage=3", "--set", "engine.micro_batch_size=1")
    dfz("run", path, "--runs", tmp_path / "runs", "--nproc", 2, *sharded)
    lines = zip(metrics(tmp_path / "runs" / "tiny", "pretrain"), metrics(unsharded, "pretrain"), strict=True)
    for ours, theirs in lines:
        for line in (ours, theirs):
            line.pop("latent_std", None)  # the one number that is taken within a micro batch
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_a_resumed_run_goes_on_exactly(tmp_path):
    """The last checkpoint is lost: the run resumes from the one before, the factor and the token with it."""
    content = composed(steps=7, checkpoint={"every": 4})
    path = write_spec(tmp_path, content)
    _, folder = run_here(path, tmp_path / "runs")
    before, weights = metrics(folder.root, "pretrain"), weights_of(folder.root)
    (stage,) = folder.root.glob("stages/pretrain-*")
    (stage / "done.json").unlink()
    shutil.rmtree(stage / "checkpoints" / "step-00000007")
    run_here(path, tmp_path / "runs")
    assert metrics(folder.root, "pretrain") == before
    assert all(weights[name].equal(value) for name, value in weights_of(folder.root).items())


AUTOENCODERS = {
    "images": (
        {"kind": "compact-kl", "spatial_factor": 4, "latent_channels": 4, "width": 16, "blocks": 1},
        (3, 32, 32),
    ),
    "clips": (
        {"kind": "compact-video-kl", "spatial_factor": 4, "temporal_factor": 2, "latent_channels": 4, "width": 16},
        (3, 9, 32, 32),
    ),
}
CASES = [
    {"kind": "scale-equivariance", "each_step": "all"},
    {"kind": "kl", "free_bits": 0.1},
    {"kind": "frequency-chop"},
    {"kind": "high-frequency-penalty"},
    {"kind": "decoder-lipschitz"},
    {"kind": "decoder-lipschitz", "estimate": "gradient"},
    {"kind": "equivariance", "probability": 1.0},
    {"kind": "equivariance", "probability": 0.0, "small_image_probability": 1.0},
    {"kind": "local-correlation", "threshold": 1.0, "adaptive": True},
    {"kind": "latent-masking", "ratios": [0.5], "probabilities": [1.0], "block_size": 2},
    {"kind": "spectrum-matching"},
    {"kind": "spectrum-matching", "match": "decoding"},
    {"kind": "variance-expansion"},
    {"kind": "latent-noise"},
    {"kind": "channel-dropout"},
    {"kind": "velocity-variance"},
]


@pytest.mark.parametrize("what", AUTOENCODERS)
def test_every_kind_trains_real_autoencoders(what):
    """Each on its own, on images and on clips: a finite term whose gradient reaches encoder or decoder."""
    fields, shape = AUTOENCODERS[what]
    torch.manual_seed(0)
    objective = ObjectiveSpec.model_validate({"kind": "reconstruction", "autoencoder": fields}).build(BuildContext())
    info = objective.autoencoder.info
    context = BuildContext(autoencoder=info, image_shape=shape, latent_shape=info.latent_shape(shape))
    images = torch.rand(2, *shape) * 2 - 1
    for case in CASES:
        spec = RegularizerSpec.model_validate(case)
        spec.check_model(context)
        task = TrainTask(objective, {spec.label: spec.build(context)}, (spec,), torch.bfloat16)
        randomness = BatchRandomness(seed=0, step=3, positions=range(2))
        output = task.objective(Batch(data=images, labels=None, randomness=randomness))
        task.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            term = task.regularizers[spec.label](output, task.objective)
        term.backward()
        gradients = [parameter.grad for parameter in objective.parameters() if parameter.grad is not None]
        assert torch.isfinite(term), case
        assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0, case
        assert all(torch.isfinite(gradient).all() for gradient in gradients), case


def refusal(tmp_path, *regularizers, **engine):
    content = composed()
    content["stages"]["pretrain"]["regularizers"] = list(regularizers)
    content["engine"] |= engine
    with pytest.raises(SpecError) as caught:
        check(load_plan(write_spec(tmp_path, content)))
    return str(caught.value)


@pytest.mark.parametrize(
    ("regularizer", "engine", "message"),
    [
        (
            {"kind": "kl", "weight": -1},
            {},
            r"greater than or equal to 0, got -1 at stages.pretrain.regularizers.0.weight",
        ),
        (
            {"kind": "kl", "weight": float("nan")},
            {},
            r"finite number, got nan at stages.pretrain.regularizers.0.weight",
        ),
        ({"kind": "scale-equivariance", "factors": [16]}, {}, r"leaves less than one pixel of latents of 8x8"),
        ({"kind": "scale-equivariance", "temporal_factors": [2]}, {}, r"this autoencoder is one of images"),
        ({"kind": "channel-dropout", "keep": [4]}, {}, r"of 4 latent channels drops none"),
        ({"kind": "decoder-lipschitz", "estimate": "gradient"}, {"zero_stage": 3}, r"differentiates twice"),
        ({"kind": "kl", "name": "no spaces"}, {}, r"regularizers.0.name"),
        (
            {"kind": "representation-alignment", "features": {"kind": "inception", "weights": "gone.pth"}},
            {},
            r"'gone.pth' does not exist at stages.pretrain.regularizers.0.features",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_training(tmp_path, regularizer, engine, message):
    """Words and place of each refusal by ``dfz check``."""
    assert re.search(message, refusal(tmp_path, regularizer, **engine))


def test_two_of_one_kind_need_names(tmp_path):
    """Without names, with the way out; with names it passes, as the other tests show."""
    message = refusal(tmp_path, {"kind": "kl"}, {"kind": "kl", "weight": 1.0})
    assert "more than one: kl; give each a 'name' of its own" in message
