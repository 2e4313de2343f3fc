"""Trained DiTs and SiTs from elsewhere, against the originals' functions and sampling code written out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published_dit import CHANNELS, CLASSES, DEPTH, HEADS, SIDE, WIDTH, original_forward, published_weights
from pydantic import ValidationError
from torch import Tensor
from typer.testing import CliRunner

from diffusability.core.cli.app import app
from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.models.saved_models import save_autoencoder, trained_model
from diffusability.core.sampling.load_generator import load_generator
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec, DenoiserSpec, SamplerSpec
from diffusability.models.specs.denoisers.dit_architecture import DIT_SIZES, DiTSize

#: An autoencoder of the latents' channels.
DECODER = {"kind": "compact-kl", "latent_channels": CHANNELS, "spatial_factor": 4, "width": 16, "blocks": 1}
Noise = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A published size that computes in no time."""
    monkeypatch.setitem(DIT_SIZES, "Ti", DiTSize(DEPTH, WIDTH, HEADS))


def model_of(tmp_path: Path, family: str, **fields: Any) -> tuple[DiffusionModel, dict[str, Tensor]]:
    """A checkpoint with random weights, loaded as of a family, and its weights."""
    weights = published_weights()
    torch.save(weights, tmp_path / "weights.pt")
    settings = {"kind": "published", "path": tmp_path / "weights.pt", "family": family}
    spec = DenoiserSpec.model_validate({**settings, "autoencoder": {"kind": "dct"}, **fields})
    return trained_model(spec, BuildContext()), weights


def sit_forward(weights: dict[str, Tensor], latents: Tensor, time: Tensor, labels: Tensor) -> Tensor:
    """SiT's network: a DiT of times in [0, 1], data at 1; half of its channels, ``z - eps``, are kept."""
    return original_forward(weights, latents, time, labels).chunk(2, dim=1)[0]


@pytest.fixture
def inputs(noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, times, and labels, one of them "no class"."""
    return noise(3, CHANNELS, SIDE, SIDE), torch.tensor([0.02, 0.4, 1.0]), torch.tensor([0, 3, CLASSES])


def test_a_sit_gives_our_velocities(tmp_path: Path, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """``eps - z`` at our time t against minus SiT's own function at 1 - t; a DiT of the same file gives another."""
    latents, times, labels = inputs
    model, weights = model_of(tmp_path, "sit")
    found = model.velocity_model()(latents, times, labels)
    expected = -sit_forward(weights, latents, 1 - times, labels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    as_dit = model_of(tmp_path, "dit")[0].velocity_model()(latents, times, labels)
    assert (as_dit - expected).norm() / expected.norm() > 0.5


def test_a_dit_gives_the_noise_of_its_ddpm(tmp_path: Path, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """Its prediction at whole steps of 1,000, and the parametrisation, size, classes and scaling of its latents."""
    latents, _, labels = inputs
    model, weights = model_of(tmp_path, "dit", scaling_factor=0.5, shift_factor=0.25)
    steps = torch.tensor([0.0, 371.0, 999.0])
    found = model.denoiser(latents, steps / 1000, labels)
    torch.testing.assert_close(found, original_forward(weights, latents, steps, labels), rtol=1e-4, atol=1e-4)
    assert model.parametrisation.prediction == "noise"
    assert model.parametrisation.betas is not None
    assert (model.latent_shape, model.num_classes) == ((CHANNELS, SIDE, SIDE), CLASSES)
    torch.testing.assert_close(model.normalizer.normalize(latents), (latents - 0.25) * 0.5)


@pytest.mark.parametrize("channels", [3, None])
def test_sampling_is_the_released_code_of_sit(tmp_path: Path, noise: Noise, channels: int | None) -> None:
    """Euler's method of SiT's ``forward_with_cfg``, which guides three channels, from noise at 0 to data at 1."""
    model, weights = model_of(tmp_path, "sit")
    start, labels, steps, scale = noise(2, CHANNELS, SIDE, SIDE), torch.tensor([1, 4]), 4, 2.5
    state = start
    for step in range(steps):
        time = torch.full((4,), step / steps)
        both = torch.cat([labels, torch.full_like(labels, CLASSES)])
        out = sit_forward(weights, torch.cat([state, state]), time, both)
        guided, rest = out[:, : channels or CHANNELS], out[:, channels or CHANNELS :]
        conditional, without = guided.chunk(2)
        half = without + scale * (conditional - without)
        state = state + torch.cat([half, rest[:2]], dim=1) / steps
    sampler = SamplerSpec.model_validate(
        {"kind": "euler", "steps": steps, "guidance_scale": scale, "guidance_channels": channels}
    ).build(BuildContext())
    found = sampler.sample(model.velocity_model(), start, labels)
    torch.testing.assert_close(found, state, rtol=1e-3, atol=1e-3)


def test_what_is_no_published_model_is_refused(tmp_path: Path) -> None:
    """Without a family, of unknown size, of other names, a DiT without variances, and as a model to train."""
    with pytest.raises(ValidationError, match="family"):
        DenoiserSpec.model_validate({"kind": "published", "path": tmp_path / "x.pt", "autoencoder": {"kind": "dct"}})
    torch.save(published_weights(outputs=CHANNELS), tmp_path / "velocities.pt")
    with pytest.raises(CheckpointError, match=r"predicts no variance.*expected family 'sit'"):
        model_of(tmp_path, "dit", path=tmp_path / "velocities.pt")
    assert model_of(tmp_path, "sit", path=tmp_path / "velocities.pt")[0].num_classes == CLASSES
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="does not hold a published DiT or SiT"):
        model_of(tmp_path, "sit", path=tmp_path / "other.pt")
    DIT_SIZES.pop("Ti")
    with pytest.raises(CheckpointError, match=f"{DEPTH} blocks of width {WIDTH}, which is no published size"):
        model_of(tmp_path, "sit")
    assert model_of(tmp_path, "sit", num_heads=HEADS)[0].num_classes == CLASSES
    spec = model_of(tmp_path, "sit", num_heads=HEADS)[0].spec
    with pytest.raises(SpecError, match="is for sampling"):
        spec.build(BuildContext(latent_shape=(CHANNELS, SIDE, SIDE), num_classes=CLASSES))


def test_published_weights_are_sampled_from_the_command_line(tmp_path: Path) -> None:
    """``dfz sample FILE --family sit --autoencoder FOLDER`` against the generator; what is missing is said."""
    model_of(tmp_path, "sit")
    save_autoencoder(build_autoencoder(AutoencoderSpec.model_validate(DECODER)), tmp_path / "decoder")
    arguments = ["sample", str(tmp_path / "weights.pt"), "--num", "2", "--steps", "2", "--guidance-scale", "2"]
    full = [*arguments, "--family", "sit", "--autoencoder", str(tmp_path / "decoder"), "--guidance-channels", "3"]
    done = CliRunner().invoke(app, full)
    assert done.exit_code == 0, done.output
    written = tmp_path / "generated" / "seed-0"
    assert {path.name for path in written.glob("*.png")} == {"00000.png", "00001.png", "sheet.png"}
    generator = load_generator(
        tmp_path / "weights.pt",
        sampler={"steps": 2, "guidance_scale": 2.0, "guidance_channels": 3},
        autoencoder=tmp_path / "decoder",
        published={"family": "sit"},
    )
    image = generator.at(range(2)).images[0]
    pixels = torch.from_numpy(np.array(Image.open(written / "00000.png"))).permute(2, 0, 1)
    assert ((image + 1) * 127.5 - pixels).abs().max() <= 0.51
    for missing, named in ((arguments, "give --family"), ([*arguments, "--family", "sit"], "give --autoencoder")):
        with pytest.raises(SpecError, match=named):
            CliRunner().invoke(app, missing, catch_exceptions=False)
    with pytest.raises(SpecError, match="--family is of a file of weights"):
        CliRunner().invoke(app, ["sample", str(tmp_path), "--family", "sit"], catch_exceptions=False)
