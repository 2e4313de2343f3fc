from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from diffusability.core.specs.build_context import BuildContext
from diffusability.models.autoencoders.compact_video_kl import CompactVideoKL, fold_time, unfold_time
from diffusability.models.specs.autoencoders.compact_video_kl import CompactVideoKLSpec


def small(**settings: int) -> CompactVideoKL:
    torch.manual_seed(0)
    autoencoder = CompactVideoKLSpec(**{"width": 16, "blocks": 1, "latent_channels": 4, **settings}).build(
        BuildContext()
    )
    assert isinstance(autoencoder, CompactVideoKL)
    return autoencoder


def stirred(autoencoder: CompactVideoKL) -> CompactVideoKL:
    """With the layers moved that start at zero."""
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return autoencoder


@pytest.mark.parametrize(("spatial", "temporal"), [(1, 1), (2, 4), (8, 4), (16, 2), (8, 3)])
@pytest.mark.parametrize("latent_frames", [1, 3])
def test_shapes_follow_from_factors(
    spatial: int, temporal: int, latent_frames: int, noise: Callable[..., Tensor]
) -> None:
    """Shapes of posterior and reconstruction against the facts in ``info``, on frames that are not square."""
    autoencoder = small(spatial_factor=spatial, temporal_factor=temporal)
    clips = noise(2, 3, 1 + (latent_frames - 1) * temporal, 2 * spatial, 3 * spatial)
    posterior = autoencoder.encode(clips)
    assert posterior.logvar is not None
    assert posterior.mean.shape == posterior.logvar.shape == (2, 4, latent_frames, 2, 3)
    assert posterior.mean.shape[1:] == autoencoder.info.latent_shape(tuple(clips.shape[1:]))
    assert autoencoder.decode(posterior.mode()).shape == clips.shape


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_folding_time_is_undone(factor: int, noise: Callable[..., Tensor]) -> None:
    """Folded and unfolded clips against the clips; the first group holds copies of the first frame."""
    clips = noise(2, 3, 1 + 2 * factor, 4, 5)
    groups = fold_time(clips, factor)
    assert groups.shape == (2, 3, 3 * factor, 4, 5)
    assert torch.equal(unfold_time(groups, factor), clips)
    assert torch.equal(groups[:, 0].unflatten(1, (3, factor)), clips[:, :, :1].expand(-1, -1, factor, -1, -1))


def test_the_beginning_of_a_clip_does_not_depend_on_the_rest(noise: Callable[..., Tensor]) -> None:
    """Encoded and decoded beginnings of a clip of 13 frames against those of its first 5 frames, and of its first."""
    autoencoder = stirred(small(temporal_factor=4))
    clips = noise(1, 3, 13, 16, 16)
    mean = autoencoder.encode(clips).mean
    decoded = autoencoder.decode(mean)
    for frames, latent_frames in ((1, 1), (5, 2)):
        torch.testing.assert_close(autoencoder.encode(clips[:, :, :frames]).mean, mean[:, :, :latent_frames])
        torch.testing.assert_close(autoencoder.decode(mean[:, :, :latent_frames]), decoded[:, :, :frames])
    changed = clips.clone()
    changed[:, :, 1:5] = 0
    assert not torch.allclose(autoencoder.encode(changed).mean[:, :, 2:], mean[:, :, 2:])


def test_the_temporal_mixing_equals_a_causal_convolution(noise: Callable[..., Tensor]) -> None:
    """A block's convolution over neighbouring frames against a plain Conv3d on clips that are padded in front."""
    block = stirred(small()).encoder.layers[2]
    features = noise(6, 16, 4, 4)  # two clips of three frames
    change = nn.functional.silu(block.spatial(nn.functional.silu(block.norm(features))))
    clips = change.unflatten(0, (2, 3)).transpose(1, 2)
    weight = block.temporal.weight.flatten(1).unflatten(1, (3, 16)).permute(0, 2, 1)[..., None, None]
    padded = torch.cat([clips[:, :, :1], clips[:, :, :1], clips], dim=2)
    mixed = nn.functional.conv3d(padded, weight, block.temporal.bias).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(block(features, 3), features + mixed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"spatial_factor": 4, "temporal_factor": 2, "patch_shortcut": False}])
def test_parameters_are_counted_without_building(settings: dict[str, int]) -> None:
    """The closed form against the module's own count."""
    spec = CompactVideoKLSpec(width=32, blocks=2, latent_channels=5, **settings)
    built = sum(parameter.numel() for parameter in spec.build(BuildContext()).parameters())
    assert spec.num_parameters(BuildContext()) == built


def test_gradients_reach_every_parameter(noise: Callable[..., Tensor]) -> None:
    """Gradients of a sampled reconstruction against zero, once the zero-initialised layers have moved."""
    autoencoder = stirred(small())
    posterior = autoencoder.encode(noise(1, 3, 5, 16, 16))
    autoencoder.decode(posterior.sample(noise(1, 4, 2, 2, 2, seed=1))).square().mean().backward()
    assert [name for name, parameter in autoencoder.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_thirty_steps_halve_the_error() -> None:
    """Mean squared error on moving waves, under bf16 autocast, before and after thirty steps of Adam."""
    autoencoder = small(temporal_factor=4)
    t, y, x = torch.meshgrid(torch.arange(5) / 4, torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    clips = torch.stack([torch.sin(3 * x + t), torch.cos(2 * y - t), x * y])[None].expand(2, -1, -1, -1, -1)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=3e-3)
    errors = []
    for _ in range(30):
        with torch.autocast("cpu", torch.bfloat16):
            error = (autoencoder.decode(autoencoder.encode(clips).mode()) - clips).square().mean()
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert errors[-1] < 0.5 * errors[0]


def test_the_decoder_tail_is_the_last_norm_and_convolution(noise: Callable[..., Tensor]) -> None:
    """The tail's modules against the order in which hooks saw the decoder's norms and convolutions run."""
    autoencoder = small(patch_shortcut=False)
    seen: list[nn.Module] = []
    for module in autoencoder.decoder.modules():
        if isinstance(module, nn.GroupNorm | nn.Conv2d):
            module.register_forward_hook(lambda module, *_: seen.append(module))
    autoencoder.decode(noise(1, 4, 2, 2, 2))
    assert list(autoencoder.decoder_tail()) == seen[-2:]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 5, 20, 16), "20x16 pixels is not divisible by the autoencoder's spatial factor 8"),
        ((1, 3, 16, 16), r"encodes clips of shape \(b, c, t, h, w\), got \(1, 3, 16, 16\)"),
        ((1, 3, 8, 16, 16), r"a clip of 8 frames does not fit the autoencoder, which takes 1 \+ n \* 4: 5 or 9"),
    ],
)
def test_clips_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    """The message names what was given and what was expected."""
    with pytest.raises(ValueError, match=message):
        small().encode(torch.zeros(shape))


def test_an_image_where_a_clip_is_expected_is_refused_before_anything_starts() -> None:
    """The shape rule that checking uses, without torch."""
    info = CompactVideoKLSpec().info(BuildContext())
    assert info.latent_shape((3, 17, 64, 32)) == (16, 5, 8, 4)
    with pytest.raises(ValueError, match=r"takes clips \(c, t, h, w\), got an image of shape \(3, 64, 64\)"):
        info.latent_shape((3, 64, 64))


@pytest.mark.parametrize("settings", [{"spatial_factor": 12}, {"width": 40}])
def test_bad_settings_are_refused(settings: dict[str, int]) -> None:
    """As for compact-kl."""
    with pytest.raises(ValueError, match="expected a"):
        CompactVideoKLSpec(**settings)
