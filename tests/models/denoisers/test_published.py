"""Trained DiTs and SiTs from elsewhere, against the originals' functions and sampling code written out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published_dit import CHANNELS, CLASSES, DEPTH, HEADS, SIDE, WIDTH, original_forward, published_weights
from pydantic import ValidationError

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
