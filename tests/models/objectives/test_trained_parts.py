from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny_runs import run_here, tiny_spec, write_spec
from torch import Tensor

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine import distributed
from diffusability.core.engine.deepspeed_engine import initialize
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.errors import SpecError
from diffusability.core.models.saved_models import save_autoencoder
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.stages.runtime import StageRuntime
from diffusability.core.stages.train import build_task, data_context
from diffusability.models.objectives.reconstruction import Reconstruction
from diffusability.models.specs.objectives.reconstruction import ReconstructionSpec

AUTOENCODER = {"kind": "compact-kl", "spatial_factor": 4, "latent_channels": 4, "width": 16, "blocks": 1}


def objective_of(**settings: object) -> Reconstruction:
    torch.manual_seed(0)
    objective = ReconstructionSpec(**{"autoencoder": AUTOENCODER, **settings}).build(BuildContext())
    assert isinstance(objective, Reconstruction)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return objective


def moved_by_a_step(objective: Reconstruction, batch: Batch) -> set[str]:
    """Names of the weights that one AdamW step changed."""
    before = {name: value.clone() for name, value in objective.autoencoder.named_parameters()}
    optimizer = torch.optim.AdamW((p for p in objective.parameters() if p.requires_grad), lr=1e-3)
    objective(batch).losses["reconstruction"].backward()
    optimizer.step()
    after = dict(objective.autoencoder.named_parameters())
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize(
    ("part", "prefixes"),
    [("encoder", ("encoder.", "shortcut.to_latent.")), ("decoder", ("decoder.", "shortcut.to_patch."))],
)
def test_one_half_trains_and_the_other_keeps_its_weights(
    part: str, prefixes: tuple[str, ...], batch_of: Callable[..., Batch], smooth_images: Callable[..., Tensor]
) -> None:
    """Weights before and after a step against the names that belong to the half."""
    objective = objective_of(train=part)
    moved = moved_by_a_step(objective, batch_of(smooth_images(2, 16)))
    assert moved == {name for name, _ in objective.autoencoder.named_parameters() if name.startswith(prefixes)}


def test_patterns_freeze_modules_and_parameters(
    batch_of: Callable[..., Batch], smooth_images: Callable[..., Tensor]
) -> None:
    """A module by its name, all biases by a pattern: exactly those stay."""
    objective = objective_of(freeze=["encoder.1", "*.bias"])
    moved = moved_by_a_step(objective, batch_of(smooth_images(2, 16)))
    names = {name for name, _ in objective.autoencoder.named_parameters()}
    assert names - moved == {name for name in names if name.startswith("encoder.1.") or name.endswith(".bias")}


def test_an_unknown_pattern_names_what_is_near() -> None:
    """A misspelt name, and one that is like nothing."""
    with pytest.raises(SpecError, match=r"'shortcut.to_latnet' matches no .* did you mean 'shortcut.to_latent'"):
        objective_of(freeze=["shortcut.to_latnet"])
    with pytest.raises(SpecError, match="at its top are encoder, decoder, shortcut"):
        objective_of(freeze=["zzz*"])


def test_freezing_everything_is_refused() -> None:
    """Nothing would be trained."""
    with pytest.raises(SpecError, match="all parameters of CompactKL are frozen"):
        objective_of(freeze=["*"])


def test_the_tail_of_a_pretrained_autoencoder_stays_by_default(tmp_path: Path) -> None:
    """From a folder: frozen unless told otherwise. From scratch: trained unless told otherwise."""
    save_autoencoder(objective_of().autoencoder, tmp_path)
    saved = {"kind": "saved", "path": str(tmp_path)}
    tail = {"decoder.2.weight", "decoder.2.bias", "decoder.4.weight", "decoder.4.bias"}
    for settings, expected in (
        ({"autoencoder": saved}, tail),
        ({"autoencoder": saved, "freeze_decoder_tail": False}, set()),
        ({}, set()),
        ({"freeze_decoder_tail": True}, tail),
    ):
        parameters = objective_of(**settings).autoencoder.named_parameters()
        assert {name for name, value in parameters if not value.requires_grad} == expected


def test_every_parameter_of_every_own_kind_belongs_to_a_half() -> None:
    """The names of each kind that is built from its spec alone: none is left over, and both halves are there."""
    for kind in ("compact-kl", "compact-video-kl", "taesd"):
        autoencoder = AutoencoderSpec.model_validate({"kind": kind}).build(BuildContext())
        assert {autoencoder.part_of(name) for name, _ in autoencoder.named_parameters()} == {"encoder", "decoder"}


@pytest.mark.integration
@pytest.mark.parametrize("zero_stage", [0, 3])
def test_frozen_parameters_have_no_optimizer_state_and_stay(tmp_path: Path, zero_stage: int) -> None:
    """Through DeepSpeed, with a perceptual loss: the optimizer's elements against the trained ones; the saved model's
    encoder against the first weights, its decoder moved; checkpoints hold no weights of the network."""
    content = tiny_spec()
    content["stages"] = {"pretrain": content["stages"]["pretrain"]}
    stage = content["stages"]["pretrain"]
    stage["objective"] |= {"train": "decoder", "perceptual": {"kind": "st-lpips", "network": "alex"}}
    stage |= {"regularizers": [], "steps": 2, "learning_rate": {}, "preview": None}
    del stage["ema"]
    plan, folder = run_here(write_spec(tmp_path, content), tmp_path / "runs", f"engine.zero_stage={zero_stage}")
    planned = plan.stages["default"]["pretrain"]
    runtime = StageRuntime(folder=folder, ranks=distributed.start(), console=Console(quiet=True), stop=StopRequest())
    dataset, context = data_context(planned, runtime)
    task = build_task(planned, context, dataset)
    first = {name: value.clone() for name, value in task.objective.autoencoder.state_dict().items()}
    trained = sum(value.numel() for value in task.parameters() if value.requires_grad)
    engine = initialize(task, planned.spec, planned.engine, runtime.ranks)
    if zero_stage == 3:
        held = sum(flat.numel() for flat in engine.optimizer.fp32_partitioned_groups_flat)
    else:
        held = sum(value.numel() for group in engine.optimizer.param_groups for value in group["params"])
    assert held == trained < sum(value.numel() for value in first.values())
    engine.destroy()
    model = folder.stage(planned) / "model"
    from diffusability.core.models.saved_models import load_autoencoder

    last = load_autoencoder(model).state_dict()
    for name, value in first.items():
        assert torch.equal(value, last[name]) == (not name.startswith(("decoder.", "shortcut.to_patch."))), name
    largest = max(path.stat().st_size for path in folder.stage(planned).rglob("checkpoints/**/*.pt"))
    assert largest < 16 * sum(value.numel() for value in first.values()) + 200_000
