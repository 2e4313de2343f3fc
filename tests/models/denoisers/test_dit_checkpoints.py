"""The original's options, weights and function, against code written out and against diffusers' model."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from diffusability.core.contracts.parametrisation import VELOCITIES
from diffusability.core.errors import CheckpointError
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.denoisers.dit import DiT
from diffusability.models.denoisers.dit_checkpoints import exported, layout_of
from diffusability.models.objectives.starting_model import starting_model
from diffusability.models.specs.denoisers import dit as dit_spec
from diffusability.models.specs.denoisers.dit import DiTSpec
from diffusability.models.specs.denoisers.dit_architecture import DIT_SIZES, DiTSize

DEPTH, WIDTH, HEADS, CLASSES, CHANNELS, SIDE = 2, 32, 2, 5, 4, 8
CONTEXT = BuildContext(latent_shape=(CHANNELS, SIDE, SIDE), num_classes=CLASSES)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that compute in no time: Ti and S of other depths."""
    monkeypatch.setitem(DIT_SIZES, "Ti", DiTSize(DEPTH, WIDTH, HEADS))
    monkeypatch.setitem(DIT_SIZES, "S", DiTSize(3, 48, HEADS))
    assert dit_spec.DIT_SIZES is DIT_SIZES


def published_weights(outputs: int = 2 * CHANNELS) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of a published checkpoint."""
    generator = torch.Generator().manual_seed(3)

    def linear(name: str, inputs: int, out: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": torch.randn(out, inputs, generator=generator) / inputs**0.5,
            f"{name}.bias": 0.1 * torch.randn(out, generator=generator),
        }

    weights = {"pos_embed": torch.zeros(1, 16, WIDTH)} | linear("x_embedder.proj", CHANNELS * 4, WIDTH)
    weights["x_embedder.proj.weight"] = weights["x_embedder.proj.weight"].view(WIDTH, CHANNELS, 2, 2)
    weights |= linear("t_embedder.mlp.0", 256, WIDTH) | linear("t_embedder.mlp.2", WIDTH, WIDTH)
    weights["y_embedder.embedding_table.weight"] = torch.randn(CLASSES + 1, WIDTH, generator=generator)
    for index in range(DEPTH):
        block = f"blocks.{index}"
        weights |= linear(f"{block}.attn.qkv", WIDTH, 3 * WIDTH) | linear(f"{block}.attn.proj", WIDTH, WIDTH)
        weights |= linear(f"{block}.mlp.fc1", WIDTH, 4 * WIDTH) | linear(f"{block}.mlp.fc2", 4 * WIDTH, WIDTH)
        weights |= linear(f"{block}.adaLN_modulation.1", WIDTH, 6 * WIDTH)
    weights |= linear("final_layer.adaLN_modulation.1", WIDTH, 2 * WIDTH)
    return weights | linear("final_layer.linear", WIDTH, 4 * outputs)


def original_forward(w: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The original's function of integer times t in [0, 1000), in plain torch: one sum after the other."""

    def linear(name: str, value: Tensor) -> Tensor:
        return value @ w[f"{name}.weight"].flatten(1).T + w[f"{name}.bias"]

    def norm(value: Tensor) -> Tensor:
        return F.layer_norm(value, (WIDTH,), eps=1e-6)

    rows = SIDE // 2
    tokens = F.conv2d(x, w["x_embedder.proj.weight"], w["x_embedder.proj.bias"], stride=2).flatten(2).mT
    positions = torch.zeros(rows * rows, WIDTH)
    for cell in range(rows * rows):  # first the column, then the row: np.meshgrid(grid_w, grid_h), "here w goes first"
        for half, place in enumerate((cell % rows, cell // rows)):
            for k in range(WIDTH // 4):
                angle = place / 10000 ** (k / (WIDTH // 4))
                positions[cell, half * WIDTH // 2 + k] = math.sin(angle)
                positions[cell, half * WIDTH // 2 + WIDTH // 4 + k] = math.cos(angle)
    tokens = tokens + positions
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128) / 128)
    embedded = linear(
        "t_embedder.mlp.2", F.silu(linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], 1)))
    )
    c = F.silu(embedded + w["y_embedder.embedding_table.weight"][y])
    for index in range(DEPTH):
        block = f"blocks.{index}"
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(f"{block}.adaLN_modulation.1", c)[:, None].chunk(6, 2)
        h = linear(f"{block}.attn.qkv", norm(tokens) * (1 + scale1) + shift1)
        q, k, v = h.view(len(x), -1, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q @ k.mT / (WIDTH // HEADS) ** 0.5, -1) @ v
        tokens = tokens + gate1 * linear(f"{block}.attn.proj", mixed.transpose(1, 2).flatten(2))
        h = F.gelu(linear(f"{block}.mlp.fc1", norm(tokens) * (1 + scale2) + shift2), approximate="tanh")
        tokens = tokens + gate2 * linear(f"{block}.mlp.fc2", h)
    shift, scale = linear("final_layer.adaLN_modulation.1", c)[:, None].chunk(2, 2)
    patches = linear("final_layer.linear", norm(tokens) * (1 + scale) + shift)
    image = patches.view(len(x), rows, rows, 2, 2, -1)
    return torch.einsum("nhwpqc->nchpwq", image).reshape(len(x), -1, SIDE, SIDE)


def original_spec(path: Path, **settings: object) -> DiTSpec:
    return DiTSpec.model_validate({"kind": "dit", "size": "Ti/2", "learn_sigma": True, "pretrained": path, **settings})


@pytest.fixture
def inputs(noise: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, the original's integer times, and labels, one of them "no class"."""
    return noise(3, CHANNELS, SIDE, SIDE), torch.tensor([0.0, 371.0, 999.0]), torch.tensor([0, 3, CLASSES])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_published_weights_give_the_published_function(
    tmp_path: Path, inputs: tuple[Tensor, Tensor, Tensor], suffix: str
) -> None:
    """A file in the published layout, loaded by the spec, against the original's formulas at time t = 1000 time."""
    weights, path = published_weights(), tmp_path / f"weights{suffix}"
    torch.save(weights, path) if suffix == ".pt" else save_file(weights, path)
    model = original_spec(path).build(CONTEXT)
    latents, steps, labels = inputs
    predicted = model(latents, steps / 1000, labels)
    torch.testing.assert_close(predicted, original_forward(weights, latents, steps, labels), rtol=1e-4, atol=1e-4)


def test_weights_go_back_to_the_published_layout(tmp_path: Path) -> None:
    """Every tensor of a published checkpoint but the fixed positions, after loading and exporting: equal bits."""
    weights, path = published_weights(), tmp_path / "weights.pt"
    torch.save(weights, path)
    model = original_spec(path).build(CONTEXT)
    assert isinstance(model, DiT)
    back = exported(model.state_dict(), model.architecture, "original")
    assert layout_of(back) == "original"
    assert set(back) == set(weights) - {"pos_embed"}
    assert all(torch.equal(back[name], weights[name]) for name in back)


def diffusers_model() -> Any:
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        in_channels=CHANNELS,
        out_channels=2 * CHANNELS,
        num_layers=DEPTH,
        sample_size=SIDE,
        patch_size=2,
        num_embeds_ada_norm=CLASSES,
        norm_eps=1e-6,
    )
    return model.eval()


def test_our_weights_give_the_same_in_diffusers(tmp_path: Path, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """Our model exported to diffusers' names against ``DiTTransformer2DModel``, and loaded back: equal predictions."""
    path = tmp_path / "weights.pt"
    torch.save(published_weights(), path)
    ours = original_spec(path, time_frequencies="diffusers").build(CONTEXT)
    assert isinstance(ours, DiT)
    theirs = diffusers_model()
    weights = exported(ours.state_dict(), ours.architecture, "diffusers")
    assert set(weights) == set(theirs.state_dict())
    theirs.load_state_dict(weights)
    latents, steps, labels = inputs
    with torch.no_grad():
        expected = theirs(latents, timestep=steps, class_labels=labels).sample
        torch.testing.assert_close(ours(latents, steps / 1000, labels), expected, rtol=1e-4, atol=1e-4)
        theirs.save_pretrained(tmp_path / "diffusers")
        file = tmp_path / "diffusers" / "diffusion_pytorch_model.safetensors"
        again = original_spec(file, time_frequencies="diffusers").build(CONTEXT)
        torch.testing.assert_close(again(latents, steps / 1000, labels), expected, rtol=1e-4, atol=1e-4)


def test_exports_load_in_diffusers_and_as_published(tmp_path: Path, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """A folder of diffusers opened by its ``from_pretrained``, one of the published layout by our ``pretrained``."""
    from diffusers import DiTTransformer2DModel

    path = tmp_path / "weights.pt"
    torch.save(published_weights(), path)
    latents, steps, labels = inputs
    for frequencies, folder, file in (
        ("dit", "dit", "model.safetensors"),
        ("diffusers", "diffusers", "diffusion_pytorch_model.safetensors"),
    ):
        model = original_spec(path, time_frequencies=frequencies).build(CONTEXT)
        assert model.export(tmp_path) == folder
        again = original_spec(tmp_path / folder / file, time_frequencies=frequencies).build(CONTEXT)
        assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())
    theirs = DiTTransformer2DModel.from_pretrained(tmp_path / "diffusers").eval()
    with torch.no_grad():
        expected = theirs(latents, timestep=steps, class_labels=labels).sample
        torch.testing.assert_close(model(latents, steps / 1000, labels), expected, rtol=1e-4, atol=1e-4)
    assert DiTSpec(size="Ti/2", norm="rms").build(CONTEXT).export(tmp_path) is None


def test_what_is_trained_is_rebuilt_without_the_file(tmp_path: Path) -> None:
    """The spec that a saved model keeps names no file to start from."""
    path = tmp_path / "weights.pt"
    torch.save(published_weights(), path)
    model = starting_model(original_spec(path), CONTEXT, VELOCITIES)
    assert model.spec.model_dump()["pretrained"] is None
    assert model.spec.model_dump()["learn_sigma"] is True


def test_checkpoints_of_another_size_are_refused_with_both(tmp_path: Path) -> None:
    """Depth, width, classes and channels of the file and of the model; and shapes, for our own layout."""
    path = tmp_path / "weights.pt"
    torch.save(published_weights(), path)
    with pytest.raises(CheckpointError, match=r"blocks 2 against 3, width 32 against 48"):
        original_spec(path, size="S/2").build(CONTEXT)
    with pytest.raises(CheckpointError, match=r"classes 5 against 7"):
        original_spec(path).build(BuildContext(latent_shape=CONTEXT.latent_shape, num_classes=7))
    with pytest.raises(CheckpointError, match=r"output channels 8 against 4"):
        original_spec(path, learn_sigma=False).build(CONTEXT)
    own = tmp_path / "own.safetensors"
    save_file(DiTSpec(size="S/2").build(CONTEXT).state_dict(), own)
    with pytest.raises(
        CheckpointError, match=r"'patch_embedding.weight' has shape \(48, 16\) .* and \(32, 16\) in the model"
    ):
        DiTSpec(size="Ti/2", pretrained=own).build(CONTEXT)


def test_published_weights_need_the_options_of_the_original(tmp_path: Path) -> None:
    """The message says in what the model differs."""
    path = tmp_path / "weights.pt"
    torch.save(published_weights(), path)
    with pytest.raises(CheckpointError, match=r"this DiT differs: positions 'rope', norm 'rms', qk_norm"):
        original_spec(path, positions="rope", norm="rms", qk_norm=True).build(CONTEXT)


def test_missing_and_foreign_tensors_are_named(tmp_path: Path) -> None:
    """One tensor taken out, one put in; and a file that is not there."""
    path = tmp_path / "weights.pt"
    weights = published_weights()
    torch.save({name: value for name, value in weights.items() if name != "blocks.1.attn.proj.bias"}, path)
    with pytest.raises(CheckpointError, match=r"'blocks.1.attn.proj.bias' is missing"):
        original_spec(path).build(CONTEXT)
    torch.save(weights | {"blocks.0.extra": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"1 tensors that this DiT does not have, such as 'blocks.0.extra'"):
        original_spec(path).build(CONTEXT)
    with pytest.raises(ValueError, match=r"there is no file"):
        original_spec(tmp_path / "absent.pt").check_inputs()


def with_one_modulation(model: DiT) -> dict[str, Tensor]:
    """Weights as they were saved when one matrix modulated all blocks and the end."""
    weights = dict(model.state_dict())
    for kind in ("weight", "bias"):
        names = [*(f"blocks.{index}.modulation.{kind}" for index in range(DEPTH)), f"final.modulation.{kind}"]
        weights[f"modulation.{kind}"] = torch.cat([weights.pop(name) for name in names])
    return weights


def test_weights_with_one_modulation_of_all_blocks_load(tmp_path: Path) -> None:
    """As a state dict, below a name, and from a file: equal bits in every tensor. One of another depth is refused."""
    path = tmp_path / "weights.safetensors"
    torch.save(published_weights(), tmp_path / "weights.pt")
    model = original_spec(tmp_path / "weights.pt").build(CONTEXT)
    assert isinstance(model, DiT)
    weights = with_one_modulation(model)
    save_file({f"denoiser.{name}": value for name, value in weights.items()}, path)
    plain, nested = (DiTSpec(size="Ti/2", learn_sigma=True).build(CONTEXT) for _ in range(2))
    plain.load_state_dict(weights)
    torch.nn.ModuleDict({"denoiser": nested}).load_state_dict({f"denoiser.{k}": v for k, v in weights.items()})
    for loaded in (plain, nested, original_spec(path).build(CONTEXT)):
        assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())
    with pytest.raises(
        CheckpointError, match=r"'modulation.weight' has 384 rows; expected 448 for 2 blocks of width 32"
    ):
        plain.load_state_dict(weights | {"modulation.weight": torch.zeros(384, WIDTH)})
