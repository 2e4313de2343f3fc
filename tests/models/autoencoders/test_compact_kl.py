from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.numerics.resampling import downsample
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.models.autoencoders.compact_kl import CompactKL
from diffusability.models.specs.autoencoders.compact_kl import CompactKLSpec


def small(**settings: int) -> CompactKL:
    torch.manual_seed(0)
    autoencoder = CompactKLSpec(**{"width": 16, "blocks": 1, **settings}).build(BuildContext())
    assert isinstance(autoencoder, CompactKL)
    return autoencoder


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(("latent_channels", "image_channels"), [(1, 3), (16, 3), (4, 1)])
def test_shapes_follow_from_factor_and_channels(
    factor: int, latent_channels: int, image_channels: int, noise: Callable[..., Tensor]
) -> None:
    """Shapes of posterior and reconstruction against the facts in ``info``, on images that are not square."""
    spec = CompactKLSpec(
        spatial_factor=factor, latent_channels=latent_channels, image_channels=image_channels, width=16, blocks=1
    )
    autoencoder = small(spatial_factor=factor, latent_channels=latent_channels, image_channels=image_channels)
    images = noise(2, image_channels, 2 * factor, 3 * factor)
    posterior = autoencoder.encode(images)
    assert posterior.mean.shape == (2, latent_channels, 2, 3)
    assert posterior.logvar is not None
    assert posterior.logvar.shape == posterior.mean.shape
    assert posterior.mean.shape[1:] == spec.info(BuildContext()).latent_shape(tuple(images.shape[1:]))
    assert autoencoder.decode(posterior.mode()).shape == images.shape


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16])
def test_latents_of_any_size_decode(factor: int, noise: Callable[..., Tensor]) -> None:
    """Sizes of what is decoded from downsampled latents, down to a single one, against size times factor."""
    autoencoder = small(spatial_factor=factor, latent_channels=4)
    latents = noise(1, 4, 4, 4)
    for shrink in (2, 4):
        decoded = autoencoder.decode(downsample(latents, shrink))
        assert decoded.shape == (1, 3, 4 * factor // shrink, 4 * factor // shrink)
        assert torch.isfinite(decoded).all()


def test_decoding_equals_the_same_layers_in_plain_torch(noise: Callable[..., Tensor]) -> None:
    """Decoding at factor 4 with one block, against functional calls on the same weights."""
    autoencoder = small(spatial_factor=4, latent_channels=4)
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.normal_(std=0.1)
    w = {name.removeprefix("decoder."): tensor for name, tensor in autoencoder.state_dict().items()}
    z = noise(2, 4, 3, 5)
    h = F.conv2d(z, w["0.weight"], w["0.bias"], padding=1)
    inner = F.silu(F.group_norm(h, 1, w["1.norm.weight"], w["1.norm.bias"]))
    inner = F.silu(F.conv2d(inner, w["1.spatial.weight"], w["1.spatial.bias"], padding=1))
    h = h + F.conv2d(inner, w["1.pointwise.weight"], w["1.pointwise.bias"])
    h = F.silu(F.group_norm(h, 1, w["2.weight"], w["2.bias"]))
    pixels = F.conv2d(h, w["4.weight"], w["4.bias"], padding=1) + F.conv2d(z, w["shortcut.to_patch.weight"])
    torch.testing.assert_close(autoencoder.decode(z), F.pixel_shuffle(pixels, 4), rtol=1e-4, atol=1e-5)


def test_the_patch_shortcut_maps_patches_and_nothing_else(noise: Callable[..., Tensor]) -> None:
    """With a silent deep path, the mean against an explicit product of each flattened patch with the matrix."""
    autoencoder = small(spatial_factor=8, latent_channels=5)
    with torch.no_grad():
        for layer in (autoencoder.encoder[-1], autoencoder.decoder[-2]):
            layer.weight.zero_()
            layer.bias.zero_()
    images = noise(1, 3, 16, 24)
    mean = autoencoder.encode(images).mean
    assert autoencoder.shortcut is not None
    matrix = autoencoder.shortcut.to_latent.weight.flatten(1)
    for row in range(2):
        for column in range(3):
            patch = images[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            torch.testing.assert_close(mean[0, :, row, column], matrix @ patch.flatten(), rtol=1e-4, atol=1e-5)


def test_without_the_shortcut_the_deep_path_is_all(noise: Callable[..., Tensor]) -> None:
    """Mean and reconstruction without a shortcut against the encoder and the decoder alone."""
    autoencoder = small(spatial_factor=8, latent_channels=5, patch_shortcut=False)
    images = noise(1, 3, 16, 24)
    latents = autoencoder.encode(images).mean
    torch.testing.assert_close(latents, autoencoder.encoder(images)[:, :5])
    torch.testing.assert_close(autoencoder.decode(latents), autoencoder.decoder(latents))


def test_log_variance_is_clamped(noise: Callable[..., Tensor]) -> None:
    """The log variance of an encoder with an absurd last bias, against the documented range."""
    autoencoder = small(latent_channels=2)
    with torch.no_grad():
        autoencoder.encoder[-1].bias[2] = 1e4
        autoencoder.encoder[-1].bias[3] = -1e4
    logvar = autoencoder.encode(noise(1, 3, 16, 16)).logvar
    assert logvar is not None
    assert (logvar[:, 0] == 20).all()
    assert (logvar[:, 1] == -30).all()


def test_bf16_autocast_keeps_float32_outputs(noise: Callable[..., Tensor]) -> None:
    """Outputs under autocast against float32 outputs: the same dtype, close values."""
    autoencoder = small(latent_channels=4)
    images = noise(2, 3, 32, 32)
    expected = autoencoder.decode(autoencoder.encode(images).mode())
    with torch.autocast("cpu", torch.bfloat16):
        posterior = autoencoder.encode(images)
        decoded = autoencoder.decode(posterior.mode())
    assert posterior.mean.dtype == decoded.dtype == torch.float32
    assert posterior.logvar is not None
    assert posterior.logvar.dtype == torch.float32
    assert (decoded - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_the_decoder_tail_is_the_last_norm_and_convolution(noise: Callable[..., Tensor]) -> None:
    """The tail's modules against the order in which hooks saw the decoder's norms and convolutions run."""
    autoencoder = small()
    seen: list[nn.Module] = []
    for module in autoencoder.decoder.modules():
        if isinstance(module, nn.GroupNorm | nn.Conv2d):
            module.register_forward_hook(lambda module, *_: seen.append(module))
    autoencoder.decode(noise(1, 16, 2, 2))
    assert list(autoencoder.decoder_tail()) == seen[-2:]


def test_gradients_reach_every_parameter(noise: Callable[..., Tensor]) -> None:
    """Gradients of a sampled reconstruction against zero, once the zero-initialised layers have moved."""
    autoencoder = small(latent_channels=4)
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    posterior = autoencoder.encode(noise(2, 3, 32, 32))
    autoencoder.decode(posterior.sample(noise(2, 4, 4, 4, seed=1))).square().mean().backward()
    silent = [name for name, parameter in autoencoder.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []


def test_an_export_is_read_by_the_kind_saved(tmp_path: Path, noise: Callable[..., Tensor]) -> None:
    """Decoding after export against the model; its layout is nobody else's."""
    autoencoder = build_autoencoder(CompactKLSpec(width=16, blocks=1))
    autoencoder.export(tmp_path)
    assert autoencoder.exchange_library() == "diffusability"
    saved = AutoencoderSpec.model_validate({"kind": "saved", "path": tmp_path}).build(BuildContext())
    latents = noise(1, 16, 2, 2)
    assert torch.equal(saved.decode(latents), autoencoder.decode(latents))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 20, 16), "20x16 pixels is not divisible by the autoencoder's spatial factor 8"),
        ((1, 1, 16, 16), "1 channels, the autoencoder takes 3"),
        ((1, 3, 5, 16, 16), r"encodes images of shape \(b, c, h, w\), got \(1, 3, 5, 16, 16\)"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    """The message names what was given and what was expected."""
    with pytest.raises(ValueError, match=message):
        small().encode(torch.zeros(shape))


def test_latents_that_do_not_fit_are_refused() -> None:
    """The message names the channels that were expected and the shape that was given."""
    with pytest.raises(ValueError, match=r"\(b, 16, h, w\), got \(1, 4, 2, 2\)"):
        small().decode(torch.zeros(1, 4, 2, 2))
