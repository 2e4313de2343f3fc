"""DiT, SiT and LightningDiT in their authors' files, against their forward passes written out."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.models.saved_models import load_diffusion_model, save_diffusion_model, trained_model
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import DenoiserSpec, SamplerSpec
from diffusability.models.denoisers.positions import grid_positions
from diffusability.models.specs.denoisers.dit import DIT_SIZES, DiTSize

WIDTH, HEADS, DEPTH, CLASSES, CHANNELS, SIDE, PATCH = 32, 2, 2, 3, 4, 8, 2
Weights = dict[str, Tensor]


@pytest.fixture(autouse=True)
def tiny_dit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIT_SIZES, "Ti", DiTSize(DEPTH, WIDTH, HEADS))


def random_weights(family: str, *, learn_sigma: bool = True, qk_norm: bool = False, shifts: bool = True) -> Weights:
    """A state dict of the authors' code, no tensor of which is zero."""
    generator = torch.Generator().manual_seed(0)
    weights: Weights = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        weights[f"{name}.weight"] = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
        weights[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)

    def norm(name: str, size: int) -> None:
        weights[f"{name}.weight"] = 1 + 0.3 * torch.randn(size, generator=generator)

    lightning = family == "lightningdit"
    linear("x_embedder.proj", WIDTH, CHANNELS * PATCH**2)
    weights["x_embedder.proj.weight"] = weights["x_embedder.proj.weight"].view(WIDTH, CHANNELS, PATCH, PATCH)
    weights["pos_embed"] = grid_positions((SIDE // PATCH, SIDE // PATCH), WIDTH)[None]
    linear("t_embedder.mlp.0", WIDTH, 256)
    linear("t_embedder.mlp.2", WIDTH, WIDTH)
    weights["y_embedder.embedding_table.weight"] = torch.randn(CLASSES + 1, WIDTH, generator=generator)
    for index in range(DEPTH):
        block = f"blocks.{index}"
        linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH)
        linear(f"{block}.attn.proj", WIDTH, WIDTH)
        linear(f"{block}.adaLN_modulation.1", (6 if shifts else 4) * WIDTH, WIDTH)
        if lightning:
            hidden = int(2 / 3 * 4 * WIDTH)  # 85
            linear(f"{block}.mlp.w12", 2 * hidden, WIDTH)
            linear(f"{block}.mlp.w3", WIDTH, hidden)
            norm(f"{block}.norm1", WIDTH)
            norm(f"{block}.norm2", WIDTH)
            if qk_norm:
                norm(f"{block}.attn.q_norm", WIDTH // HEADS)
                norm(f"{block}.attn.k_norm", WIDTH // HEADS)
        else:
            linear(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH)
            linear(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
    if lightning:
        norm("final_layer.norm_final", WIDTH)
        weights["feat_rope.freqs_cos"] = torch.zeros(1)
    linear("final_layer.linear", (2 if learn_sigma else 1) * CHANNELS * PATCH**2, WIDTH)
    linear("final_layer.adaLN_modulation.1", 2 * WIDTH, WIDTH)
    return weights


def of_authors(family: str, w: Weights, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The forward pass of facebookresearch/DiT, willisma/SiT and hustvl/LightningDiT, without the variance's channels
    where their code drops them."""
    lightning = family == "lightningdit"

    def linear(tokens: Tensor, name: str) -> Tensor:
        return F.linear(tokens, w[f"{name}.weight"].flatten(1), w[f"{name}.bias"])

    def norm(tokens: Tensor, name: str) -> Tensor:
        if not lightning:
            return F.layer_norm(tokens, (WIDTH,), eps=1e-6)
        return tokens * torch.rsqrt(tokens.pow(2).mean(-1, keepdim=True) + 1e-6) * w[f"{name}.weight"]

    side, size = SIDE // PATCH, WIDTH // HEADS
    places = torch.arange(side, dtype=torch.float32)
    angles = places[:, None] / 10000 ** (torch.arange(0, size // 2, 2) / (size // 2))
    angles = angles.repeat_interleave(2, dim=-1)
    angles = torch.cat([angles[:, None].expand(-1, side, -1), angles[None].expand(side, -1, -1)], -1).flatten(0, 1)

    def rotated(heads: Tensor) -> Tensor:
        first, second = heads.unflatten(-1, (-1, 2)).unbind(-1)
        return heads * angles.cos() + torch.stack([-second, first], -1).flatten(-2) * angles.sin()

    def attention(tokens: Tensor, name: str) -> Tensor:
        b, n, _ = tokens.shape
        q, k, v = linear(tokens, f"{name}.qkv").reshape(b, n, 3, HEADS, size).permute(2, 0, 3, 1, 4).unbind(0)
        if f"{name}.q_norm.weight" in w:
            q = q * torch.rsqrt(q.pow(2).mean(-1, keepdim=True) + 1e-6) * w[f"{name}.q_norm.weight"]
            k = k * torch.rsqrt(k.pow(2).mean(-1, keepdim=True) + 1e-6) * w[f"{name}.k_norm.weight"]
        if lightning:
            q, k = rotated(q), rotated(k)
        mixed = (torch.softmax(q @ k.mT / size**0.5, -1) @ v).transpose(1, 2).reshape(b, n, WIDTH)
        return linear(mixed, f"{name}.proj")

    def mlp(tokens: Tensor, name: str) -> Tensor:
        if not lightning:
            return linear(F.gelu(linear(tokens, f"{name}.fc1"), approximate="tanh"), f"{name}.fc2")
        gate, value = linear(tokens, f"{name}.w12").chunk(2, -1)
        return linear(F.silu(gate) * value, f"{name}.w3")

    tokens = F.conv2d(x, w["x_embedder.proj.weight"], w["x_embedder.proj.bias"], stride=PATCH)
    tokens = tokens.flatten(2).transpose(1, 2) + w["pos_embed"]
    frequencies = torch.exp(-math.log(10000) * torch.arange(128) / 128)
    embedded = torch.cat([torch.cos(t[:, None] * frequencies), torch.sin(t[:, None] * frequencies)], -1)
    c = linear(F.silu(linear(embedded, "t_embedder.mlp.0")), "t_embedder.mlp.2")
    c = c + w["y_embedder.embedding_table.weight"][y]
    for index in range(DEPTH):
        block = f"blocks.{index}"
        parts = linear(F.silu(c), f"{block}.adaLN_modulation.1")[:, None].split(WIDTH, -1)
        if len(parts) == 4:
            parts = (torch.zeros(1), parts[0], parts[1], torch.zeros(1), parts[2], parts[3])
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        tokens = tokens + gate1 * attention(norm(tokens, f"{block}.norm1") * (1 + scale1) + shift1, f"{block}.attn")
        tokens = tokens + gate2 * mlp(norm(tokens, f"{block}.norm2") * (1 + scale2) + shift2, f"{block}.mlp")
    shift, scale = linear(F.silu(c), "final_layer.adaLN_modulation.1")[:, None].chunk(2, -1)
    out = linear(norm(tokens, "final_layer.norm_final") * (1 + scale) + shift, "final_layer.linear")
    out = out.reshape(len(x), side, side, PATCH, PATCH, -1).permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, SIDE, SIDE)
    return out if family == "dit" else out[:, :CHANNELS]


def spec_of(family: str, path: Path, **fields: Any) -> DenoiserSpec:
    autoencoder = {"kind": "taesd", "width": 8}
    content = {"kind": "published", "family": family, "path": str(path), "size": "Ti/2", "num_classes": CLASSES}
    return DenoiserSpec.model_validate({**content, "autoencoder": autoencoder, **fields})


def model_of(family: str, weights: Weights, folder: Path, **fields: Any) -> DiffusionModel:
    torch.save({"ema": weights, "opt": {}}, folder / f"{family}.pt")
    return trained_model(spec_of(family, folder / f"{family}.pt", **fields), BuildContext())


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("dit", {}),
    ("dit", {"learn_sigma": False}),
    ("sit", {}),
    ("sit", {"learn_sigma": False}),
    ("lightningdit", {"learn_sigma": False}),
    ("lightningdit", {"qk_norm": True, "learn_sigma": True}),
    ("lightningdit", {"shifts": False}),
]


@pytest.mark.parametrize(("family", "settings"), VARIANTS, ids=str)
@torch.no_grad()
def test_velocities_are_those_of_the_authors(
    family: str, settings: dict[str, Any], tmp_path: Path, noise: Callable[..., Tensor]
) -> None:
    """A DiT's prediction of noise at training steps; of the others the velocity, whose time and sign differ."""
    weights = random_weights(family, **settings)
    model = model_of(family, weights, tmp_path)
    latents, labels = noise(3, CHANNELS, SIDE, SIDE), torch.tensor([0, 2, CLASSES])
    assert model.latent_shape == (CHANNELS, SIDE, SIDE)
    if family == "dit":
        steps = torch.tensor([0.0, 371.0, 999.0])
        expected = of_authors(family, weights, latents, steps, labels)
        predicted = model.denoiser(latents, steps / 1000, labels)
        assert model.parametrisation.betas is not None
        assert model.denoiser.learn_sigma == settings.get("learn_sigma", True)
    else:
        time = torch.tensor([0.1, 0.5, 1.0])
        expected = -of_authors(family, weights, latents, 1 - time, labels)
        predicted = model.velocity_model()(latents, time, labels)
        assert model.parametrisation == Parametrisation()
    torch.testing.assert_close(predicted, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_it_is_saved_as_one_of_ours(tmp_path: Path, noise: Callable[..., Tensor]) -> None:
    """Written and read without the authors' file: the same predictions, normaliser and parametrisation."""
    model = model_of("lightningdit", random_weights("lightningdit"), tmp_path)
    save_diffusion_model(model, tmp_path / "saved")
    (tmp_path / "lightningdit.pt").unlink()
    again = load_diffusion_model(tmp_path / "saved")
    latents, time, labels = noise(1, CHANNELS, SIDE, SIDE), torch.tensor([0.4]), torch.tensor([1])
    expected = model.velocity_model()(latents, time, labels)
    torch.testing.assert_close(again.velocity_model()(latents, time, labels), expected, rtol=0, atol=0)
    torch.testing.assert_close(again.normalizer.std, model.normalizer.std)
    assert model.denoiser.export(tmp_path / "exchange") is None


def test_the_scaling_is_the_autoencoders_or_that_of_a_file(tmp_path: Path) -> None:
    """TAESD's published 0 and 1; statistics of LightningDiT's layout; an autoencoder that publishes none."""
    weights = random_weights("sit")
    assert model_of("sit", weights, tmp_path).normalizer.std.tolist() == [1.0] * CHANNELS
    mean, std = torch.arange(4.0).view(1, 4, 1, 1), torch.arange(1.0, 5.0).view(1, 4, 1, 1)
    torch.save({"mean": mean, "std": std}, tmp_path / "stats.pt")
    normalizer = model_of("sit", weights, tmp_path, statistics=str(tmp_path / "stats.pt")).normalizer
    assert (normalizer.mean.tolist(), normalizer.std.tolist()) == ([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0])
    compact = {"kind": "compact-kl", "width": 16, "blocks": 1, "latent_channels": 4}
    with pytest.raises(SpecError, match="'compact-kl' comes with no scaling of its latents"):
        model_of("sit", weights, tmp_path, autoencoder=compact)
    torch.save({"mean": mean[:, :3], "std": std}, tmp_path / "stats.pt")
    with pytest.raises(CheckpointError, match="'mean' and 'std' of 4 channels"):
        model_of("sit", weights, tmp_path, statistics=str(tmp_path / "stats.pt"))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    """Another family, size, resolution; a file without positions and no data; another layout; a missing file."""
    lightning = random_weights("lightningdit")
    with pytest.raises(CheckpointError, match="holds a LightningDiT; expected family: lightningdit"):
        model_of("sit", lightning, tmp_path)
    with pytest.raises(CheckpointError, match=r"another size than this DiT .*width 32 against 384"):
        model_of("dit", random_weights("dit"), tmp_path, size="S/2")
    path = tmp_path / "dit.pt"
    with pytest.raises(
        CheckpointError, match=r"was trained for 16 patches, and latents of shape \(4, 16, 16\) have 64"
    ):
        trained_model(spec_of("dit", path), BuildContext(latent_shape=(4, 16, 16)))
    without = {name: value for name, value in random_weights("dit").items() if name != "pos_embed"}
    with pytest.raises(SpecError, match="does not say for which latents it was trained"):
        model_of("dit", without, tmp_path)
    save_file({"patch_embedding.weight": torch.zeros(2)}, tmp_path / "ours.safetensors")
    with pytest.raises(CheckpointError, match="does not hold a dit in its authors' layout"):
        trained_model(spec_of("dit", tmp_path / "ours.safetensors"), BuildContext())
    with pytest.raises(ValueError, match="there is no file"):
        spec_of("dit", tmp_path / "none.pt").check_inputs()
    with pytest.raises(ValueError, match="family"):
        spec_of("pixart", path)


@pytest.mark.parametrize("channels", [3, None])
@torch.no_grad()
def test_samples_are_those_of_the_authors_sampling_code(
    channels: int | None, tmp_path: Path, noise: Callable[..., Tensor]
) -> None:
    """Euler's method of SiT's ``forward_with_cfg``, which guides three channels, from noise at 0 to data at 1."""
    weights = random_weights("sit")
    model = model_of("sit", weights, tmp_path)
    start, labels, steps, scale = noise(2, CHANNELS, SIDE, SIDE), torch.tensor([1, 2]), 4, 2.5
    state = start
    for step in range(steps):
        both = torch.cat([labels, torch.full_like(labels, CLASSES)])
        out = of_authors("sit", weights, torch.cat([state, state]), torch.full((4,), step / steps), both)
        guided, rest = out[:, : channels or CHANNELS], out[:, channels or CHANNELS :]
        conditional, without = guided.chunk(2)
        half = without + scale * (conditional - without)
        state = state + torch.cat([half, rest[:2]], dim=1) / steps
    settings = {"kind": "euler", "steps": steps, "guidance_scale": scale, "guidance_channels": channels}
    sampler = SamplerSpec.model_validate(settings).build(BuildContext())
    samples = sampler.sample(model.velocity_model(), start, labels)
    torch.testing.assert_close(samples, state, rtol=1e-3, atol=1e-3)
