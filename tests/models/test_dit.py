from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusability.core.build import BuildContext
from diffusability.core.errors import SpecError
from diffusability.models.dit import DiT
from diffusability.models.dit_blocks import DiTBlock
from diffusability.models.specs import DiTSpec


def small(
    latent_shape: tuple[int, int, int] = (4, 4, 6), num_classes: int | None = 3, patch_size: int = 2, depth: int = 2
) -> DiT:
    torch.manual_seed(0)
    return DiT(
        latent_shape=latent_shape,
        num_classes=num_classes,
        patch_size=patch_size,
        depth=depth,
        hidden_size=32,
        num_heads=2,
        mlp_size=64,
    )


def awake(**settings: object) -> DiT:
    """A DiT as it may be after some training: no weight is zero."""
    model = small(**settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_an_untrained_dit_predicts_zero(noise: Callable[..., Tensor]) -> None:
    """adaLN-Zero with a zero final layer: the first prediction against exact zeros."""
    prediction = small()(noise(2, 4, 4, 6), torch.tensor([0.2, 0.9]), torch.tensor([0, 2]))
    assert prediction.shape == (2, 4, 4, 6)
    assert (prediction == 0).all()


def test_untrained_blocks_are_the_identity(noise: Callable[..., Tensor]) -> None:
    """Tokens behind the untrained blocks of a DiT against those before."""
    tokens, condition = noise(2, 6, 32), noise(2, 32, seed=1)
    for block in small().blocks:
        torch.testing.assert_close(block(tokens, condition), tokens, rtol=0, atol=0)


def test_a_block_equals_plain_torch(noise: Callable[..., Tensor]) -> None:
    """A block with random weights against adaLN attention and MLP written out, softmax included."""
    torch.manual_seed(1)
    block = DiTBlock(32, 4, 48)
    x, c = noise(2, 5, 32), noise(2, 32, seed=1)
    w = block.state_dict()
    modulation = F.silu(c) @ w["modulation.1.weight"].T + w["modulation.1.bias"]
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation[:, None].chunk(6, dim=2)
    h = F.layer_norm(x, (32,), eps=1e-6) * (1 + scale1) + shift1
    q, k, v = (h @ w["attention.qkv.weight"].T + w["attention.qkv.bias"]).view(2, 5, 3, 4, 8).permute(2, 0, 3, 1, 4)
    attended = (torch.softmax(q @ k.mT / 8**0.5, -1) @ v).permute(0, 2, 1, 3).reshape(2, 5, 32)
    x1 = x + gate1 * (attended @ w["attention.projection.weight"].T + w["attention.projection.bias"])
    h = (F.layer_norm(x1, (32,), eps=1e-6) * (1 + scale2) + shift2) @ w["mlp.0.weight"].T + w["mlp.0.bias"]
    expected = x1 + gate2 * (F.gelu(h, approximate="tanh") @ w["mlp.2.weight"].T + w["mlp.2.bias"])
    torch.testing.assert_close(block(x, c), expected, rtol=1e-4, atol=1e-5)


def test_patches_land_where_they_came_from(noise: Callable[..., Tensor]) -> None:
    """Without blocks each output patch depends on its own input patch: the pixels that change against the patch."""
    model = awake(depth=0)
    latents, time, labels = noise(1, 4, 4, 6), torch.tensor([0.5]), torch.tensor([1])
    before = model(latents, time, labels)
    for row in range(2):
        for column in range(3):
            changed = latents.clone()
            changed[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 1
            moved = (model(changed, time, labels) - before).abs().sum((0, 1)) > 0
            expected = torch.zeros(4, 6, dtype=torch.bool)
            expected[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = True
            assert torch.equal(moved, expected)


def test_outputs_of_a_token_are_ordered_as_channel_row_column(noise: Callable[..., Tensor]) -> None:
    """The final bias at index ``c p^2 + i p + j`` against the output pixels that it moves."""
    model = small()
    with torch.no_grad():
        model.final.linear.bias.copy_(torch.arange(16.0))
    prediction = model(noise(1, 4, 4, 6), torch.tensor([0.5]), None)
    expected = torch.arange(16.0).view(4, 2, 2).repeat(1, 2, 3)
    torch.testing.assert_close(prediction[0], expected)


def test_the_prediction_depends_on_time_label_and_position(noise: Callable[..., Tensor]) -> None:
    """Predictions for other times, labels and shifted latents against the first."""
    model = awake()
    latents, time, labels = noise(1, 4, 4, 6), torch.tensor([0.5]), torch.tensor([1])
    first = model(latents, time, labels)
    assert not torch.allclose(model(latents, torch.tensor([0.6]), labels), first)
    assert not torch.allclose(model(latents, time, torch.tensor([2])), first)
    rolled = model(latents.roll(2, dims=3), time, labels).roll(-2, dims=3)
    assert not torch.allclose(rolled, first)


def test_samples_of_a_batch_do_not_mix(noise: Callable[..., Tensor]) -> None:
    """A batch's predictions against those of its samples one by one."""
    model = awake()
    latents, time, labels = noise(3, 4, 4, 6), torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0, 3, 2])
    alone = [model(latents[i : i + 1], time[i : i + 1], labels[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(model(latents, time, labels), torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_no_labels_means_no_class(noise: Callable[..., Tensor]) -> None:
    """A conditional model without labels against the same with the label ``num_classes``."""
    model = awake(num_classes=3)
    latents, time = noise(2, 4, 4, 6), torch.tensor([0.5, 0.5])
    torch.testing.assert_close(model(latents, time, None), model(latents, time, torch.tensor([3, 3])), rtol=0, atol=0)


def test_a_full_size_dit_builds_from_its_spec(noise: Callable[..., Tensor]) -> None:
    """The spec's depth, width, heads and patch size against the built Ti/2, and one prediction in bf16 autocast."""
    spec = DiTSpec(size="Ti/2")
    assert (spec.depth, spec.hidden_size, spec.num_heads, spec.patch_size) == (6, 192, 3, 2)
    model = spec.build(BuildContext(latent_shape=(4, 8, 12), num_classes=None))
    assert isinstance(model, DiT)
    assert len(model.blocks) == 6
    assert model.positions.shape == (24, 192)
    assert "positions" not in model.state_dict()
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(noise(2, 4, 8, 12), torch.tensor([0.0, 1.0]), None)
    assert prediction.dtype == torch.float32


def test_latents_of_another_shape_are_refused(noise: Callable[..., Tensor]) -> None:
    """The message names the shape that the model is built for and the one that was given."""
    with pytest.raises(ValueError, match=r"shape \(4, 4, 6\), got \(4, 6, 4\)"):
        small()(noise(1, 4, 6, 4), torch.tensor([0.5]), None)


def test_labels_for_an_unconditional_model_are_refused(noise: Callable[..., Tensor]) -> None:
    """The message says that the model is unconditional."""
    with pytest.raises(ValueError, match="unconditional"):
        small(num_classes=None)(noise(1, 4, 4, 6), torch.tensor([0.5]), torch.tensor([0]))


def test_sides_that_the_patch_size_does_not_divide_are_refused() -> None:
    """The message of both the count and the build names the latent size and the patch size."""
    context = BuildContext(latent_shape=(4, 6, 8))
    for call in (DiTSpec(size="Ti/4").num_parameters, DiTSpec(size="Ti/4").build):
        with pytest.raises(ValueError, match=r"latents of 6x8 cannot be cut into patches of 4x4"):
            call(context)


def test_latents_of_clips_and_of_unknown_shape_are_refused() -> None:
    """The messages name the shape that was given, or say that there is none."""
    with pytest.raises(ValueError, match=r"got \(4, 3, 8, 8\)"):
        DiTSpec(size="Ti/2").build(BuildContext(latent_shape=(4, 3, 8, 8)))
    with pytest.raises(SpecError, match="the context has none"):
        DiTSpec(size="Ti/2").build(BuildContext())
