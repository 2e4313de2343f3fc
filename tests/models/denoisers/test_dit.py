import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusability.core.engine.blocks import prepare_blocks
from diffusability.core.errors import DataError, SpecError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.engine import EngineSpec
from diffusability.models.denoisers.dit import DiT
from diffusability.models.denoisers.positions import grid_positions, rotary_table, rotate
from diffusability.models.specs.denoisers.dit import DiTSpec
from diffusability.models.specs.denoisers.dit_architecture import DiTArchitecture, HeadSize


def small(
    latent_shape: tuple[int, ...] = (4, 4, 6), num_classes: int | None = 3, patch_size: int = 2, **settings: Any
) -> DiT:
    torch.manual_seed(0)
    sizes = {"depth": 2, "hidden_size": 32, "num_heads": 2, "mlp_size": 64}
    return DiT(
        DiTArchitecture(
            latent_shape=latent_shape, num_classes=num_classes, patch_size=patch_size, **{**sizes, **settings}
        )
    )


def awake(**settings: Any) -> DiT:
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
    """Tokens behind the blocks of an untrained DiT, for a random condition, against those before."""
    tokens, condition = noise(2, 6, 32), noise(2, 32, seed=1)
    for block in small().blocks:
        torch.testing.assert_close(block(tokens, condition), tokens, rtol=0, atol=0)


def plain_block(x: Tensor, c: Tensor, w: dict[str, Tensor], heads: int, options: dict[str, Any]) -> Tensor:
    """adaLN attention and MLP written out, softmax included."""
    b, n, d = x.shape
    m = (c @ w["modulation.weight"].T + w["modulation.bias"]).view(b, -1, 6, d)

    def norm(tokens: Tensor) -> Tensor:
        if options.get("norm") == "rms":
            return tokens / (tokens.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        centred = tokens - tokens.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    shift1, scale1, gate1, shift2, scale2, gate2 = m.unbind(2)
    h = norm(x) * (1 + scale1) + shift1
    qkv = (h @ w["attention.qkv.weight"].T + w["attention.qkv.bias"]).view(b, n, 3, heads, d // heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    if options.get("qk_norm"):
        q = q / (q.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w["attention.query_scale"]
        k = k / (k.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w["attention.key_scale"]
    attended = (torch.softmax(q @ k.mT / (d // heads) ** 0.5, -1) @ v).permute(0, 2, 1, 3).reshape(b, n, d)
    x1 = x + gate1 * (attended @ w["attention.projection.weight"].T + w["attention.projection.bias"])
    h = (norm(x1) * (1 + scale2) + shift2) @ w["mlp.first.weight"].T + w["mlp.first.bias"]
    if options.get("activation") == "swiglu":
        gate, value = h.chunk(2, -1)
        h = gate * torch.sigmoid(gate) * value
    else:
        h = 0.5 * h * (1 + torch.tanh((2 / math.pi) ** 0.5 * (h + 0.044715 * h**3)))
    return x1 + gate2 * (h @ w["mlp.second.weight"].T + w["mlp.second.bias"])


@pytest.mark.parametrize(
    "options", [{}, {"norm": "rms", "qk_norm": True}, {"activation": "swiglu", "mlp_size": 48}], ids=str
)
def test_a_block_equals_plain_torch(noise: Callable[..., Tensor], options: dict[str, Any]) -> None:
    """A block with random weights against the formulas of attention, norm and MLP written out."""
    block = awake(**options).blocks[1]
    x, c = noise(2, 5, 32), noise(2, 32, seed=1)
    expected = plain_block(x, c, block.state_dict(), 2, options)
    torch.testing.assert_close(block(x, c), expected, rtol=1e-4, atol=1e-5)


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


@pytest.mark.parametrize("width", [32, 48])
@pytest.mark.parametrize("positions", ["sin-cos", "both"])
def test_a_head_is_that_of_the_published_code(noise: Callable[..., Tensor], width: int, positions: str) -> None:
    """The forward pass of RAE's DiT with a DDT head written out: patches embedded twice, blocks, silu(s + t), its
    projection where the head is wider, blocks and a final layer conditioned at each token. (Rotations apart.)"""
    options = {"norm": "rms", "activation": "swiglu", "positions": positions}
    head = HeadSize(depth=2, width=width, num_heads=2, mlp_size=40)
    model = awake(latent_shape=(4, 3, 4), patch_size=1, head=head, **options)
    latents, time, labels = noise(2, 4, 3, 4), torch.tensor([0.3, 0.8]), torch.tensor([2, 0])
    if positions == "both":  # rotations by nothing: they have a test of their own
        for owner in (model, model.head):
            owner.cosines, owner.sines = torch.ones_like(owner.cosines), torch.zeros_like(owner.sines)
    w = model.state_dict()

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def within(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}

    cut = latents.flatten(2).transpose(1, 2)
    t = model.time_embedding(time)
    c = silu(t + w["label_embedding.weight"][labels])
    s = linear(cut, "patch_embedding") + grid_positions((3, 4), 32)
    for index in range(2):
        s = plain_block(s, c, within(f"blocks.{index}."), 2, options)
    s = silu(s + t[:, None])
    if width != 32:
        s = silu(linear(s, "head.projection"))
    x = linear(cut, "head.patch_embedding")
    if positions == "sin-cos":
        x = x + grid_positions((3, 4), width)
    for index in range(2):
        x = plain_block(x, s, within(f"head.blocks.{index}."), 2, options)
    shift, scale = linear(s, "final.modulation").chunk(2, -1)
    x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    expected = linear(x * (1 + scale) + shift, "final.linear").transpose(1, 2).unflatten(2, (3, 4))
    torch.testing.assert_close(model(latents, time, labels), expected, rtol=1e-3, atol=1e-3)
    assert [len(list(model.repeated_blocks())), not model.architecture.is_original] == [4, True]


def test_an_untrained_head_predicts_zero(noise: Callable[..., Tensor]) -> None:
    """adaLN-Zero there, too: blocks of the head are the identity, and the prediction is exactly zero."""
    model = small(head=HeadSize(depth=1, width=48, num_heads=2, mlp_size=40))
    tokens = noise(2, 6, 48)
    torch.testing.assert_close(model.head.blocks[0](tokens, noise(2, 6, 48, seed=1)), tokens, rtol=0, atol=0)
    assert (model(noise(2, 4, 4, 6), torch.tensor([0.2, 0.9]), torch.tensor([0, 2])) == 0).all()


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
    with pytest.raises(DataError, match=r"shape \(4, 4, 6\), got \(4, 6, 4\)"):
        small()(noise(1, 4, 6, 4), torch.tensor([0.5]), None)


def test_labels_for_an_unconditional_model_are_refused(noise: Callable[..., Tensor]) -> None:
    """The message says that the model is unconditional."""
    with pytest.raises(DataError, match="unconditional"):
        small(num_classes=None)(noise(1, 4, 4, 6), torch.tensor([0.5]), torch.tensor([0]))


def test_sides_that_the_patch_size_does_not_divide_are_refused() -> None:
    """The message of both the count and the build names the latent size and the patch size."""
    context = BuildContext(latent_shape=(4, 6, 8))
    for call in (DiTSpec(size="Ti/4").num_parameters, DiTSpec(size="Ti/4").build):
        with pytest.raises(ValueError, match=r"latents of 6x8 cannot be cut into patches of 4x4"):
            call(context)


def test_latents_of_unknown_or_impossible_shape_are_refused() -> None:
    """The messages name the shape that was given, or say that there is none."""
    with pytest.raises(ValueError, match=r"got \(8, 8\)"):
        DiTSpec(size="Ti/2").build(BuildContext(latent_shape=(8, 8)))
    with pytest.raises(SpecError, match="the context has none"):
        DiTSpec(size="Ti/2").build(BuildContext())


@pytest.mark.parametrize(("labels", "named"), [([0, 4], "label 4"), ([-1, 2], "label -1")])
def test_labels_out_of_range_are_refused(noise: Callable[..., Tensor], labels: list[int], named: str) -> None:
    """The message names the label and the number of classes; the label for "no class" passes."""
    model = small(num_classes=3)
    with pytest.raises(DataError, match=f"{named} is out of range for a DiT of 3 classes"):
        model(noise(2, 4, 4, 6), torch.tensor([0.5, 0.5]), torch.tensor(labels))
    model(noise(2, 4, 4, 6), torch.tensor([0.5, 0.5]), torch.tensor([0, 3]))


def test_temporal_patches_must_divide_the_frames() -> None:
    """The messages name frames and temporal patch; images with a temporal patch are refused too."""
    with pytest.raises(ValueError, match="clips of 3 latent frames cannot be cut into patches of 2 frames"):
        DiTSpec(size="Ti/2", temporal_patch_size=2).build(BuildContext(latent_shape=(4, 3, 8, 8)))
    with pytest.raises(ValueError, match=r"temporal_patch_size is 2, and the latents have shape \(4, 8, 8\)"):
        DiTSpec(size="Ti/2", temporal_patch_size=2).build(BuildContext(latent_shape=(4, 8, 8)))


CLIP = (3, 4, 4, 6)


HEAD = HeadSize(depth=2, width=48, num_heads=2, mlp_size=40)


@pytest.mark.parametrize("head", [None, HEAD], ids=["plain", "head"])
@pytest.mark.parametrize("positions", ["sin-cos", "rope", "both"])
@pytest.mark.parametrize("temporal_patch_size", [1, 2])
def test_clips_keep_their_shape_and_their_places(
    noise: Callable[..., Tensor], positions: str, temporal_patch_size: int, head: HeadSize | None
) -> None:
    """Prediction of a clip; rolling it by a patch along any axis is not the same as rolling the prediction."""
    model = awake(latent_shape=CLIP, positions=positions, temporal_patch_size=temporal_patch_size, head=head)
    clip, time, labels = noise(2, *CLIP), torch.tensor([0.3, 0.8]), torch.tensor([0, 2])
    first = model(clip, time, labels)
    assert first.shape == clip.shape
    for axis, size in ((2, temporal_patch_size), (3, 2), (4, 2)):
        rolled = model(clip.roll(size, dims=axis), time, labels).roll(-size, dims=axis)
        assert not torch.allclose(rolled, first, rtol=1e-3, atol=1e-3)


def test_rotary_positions_depend_on_differences_alone(noise: Callable[..., Tensor]) -> None:
    """Scores of one query and key at pairs of places: equal for equal differences along both axes, else not."""
    cosines, sines = rotary_table((3, 5), 16)
    query, key = noise(1, 16).expand(15, 16), noise(1, 16, seed=1).expand(15, 16)
    scores = (rotate(query, cosines, sines) @ rotate(key, cosines, sines).T).view(3, 5, 3, 5)
    torch.testing.assert_close(scores[0, 1, 2, 3], scores[0, 0, 2, 2])
    torch.testing.assert_close(scores[1, 1, 2, 3], scores[0, 1, 1, 3])
    assert not torch.allclose(scores[0, 1, 2, 3], scores[0, 1, 2, 4])
    assert not torch.allclose(scores[0, 1, 2, 3], scores[0, 1, 1, 3])


def test_learned_sigma_doubles_the_output_channels(noise: Callable[..., Tensor]) -> None:
    """Shape of the prediction; the first half moves with the first channels' bias alone."""
    model = small(learn_sigma=True)
    with torch.no_grad():
        model.final.linear.bias.copy_(torch.arange(32.0))
    prediction = model(noise(1, 4, 4, 6), torch.tensor([0.5]), None)
    assert prediction.shape == (1, 8, 4, 6)
    torch.testing.assert_close(prediction[0], torch.arange(32.0).view(8, 2, 2).repeat(1, 2, 3))
    assert model.learn_sigma


def test_self_conditioning_takes_an_earlier_estimate(noise: Callable[..., Tensor]) -> None:
    """None against zeros (equal) and against another estimate (different); a model without it refuses one."""
    model = awake(self_conditioning=True)
    latents, time = noise(1, 4, 4, 6), torch.tensor([0.5])
    first = model(latents, time, None)
    torch.testing.assert_close(model(latents, time, None, torch.zeros_like(latents)), first, rtol=0, atol=0)
    assert not torch.allclose(model(latents, time, None, noise(1, 4, 4, 6, seed=5)), first)
    with pytest.raises(ValueError, match="self_conditioning False"):
        awake()(latents, time, None, latents)


def test_a_model_may_ignore_the_classes_of_its_data() -> None:
    """``class_conditional: false`` with 10 classes in the context: no label embedding."""
    model = DiTSpec(size="Ti/2", class_conditional=False).build(BuildContext(latent_shape=(4, 4, 4), num_classes=10))
    assert model.num_classes is None
    assert not [name for name, _ in model.named_parameters() if "label" in name]


@pytest.mark.parametrize("head", [None, HEAD], ids=["plain", "head"])
def test_activation_checkpointing_changes_memory_but_no_gradient(
    noise: Callable[..., Tensor], head: HeadSize | None
) -> None:
    """Gradients with and without; the tensors that autograd keeps for the backward pass, in bytes."""
    kept = []
    gradients = []
    for enabled in (False, True):
        model = awake(depth=4, head=head)
        prepare_blocks(model, EngineSpec(activation_checkpointing=enabled))
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(noise(2, 4, 4, 6), torch.tensor([0.3, 0.8]), torch.tensor([0, 2])).square().mean()
        kept.append(sum(sizes))
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert kept[1] < kept[0] / 2
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=0, atol=0)
