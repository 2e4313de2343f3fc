"""A small convolutional KL autoencoder, made for few CPU seconds."""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.models.specs.autoencoders.compact_kl import CompactKLSpec

_GROUP_SIZE = 16
_LOGVAR_RANGE = (-30.0, 20.0)
#: Standard deviation 0.05 of the untrained posterior, so that its noise does not drown the first steps.
_INITIAL_LOGVAR = -6.0


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // _GROUP_SIZE, width)


class ResidualBlock(nn.Module):
    """``x + conv1x1(silu(conv3x3(silu(norm(x)))))``; the identity when untrained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.spatial = nn.Conv2d(width, width, 3, padding=1)
        self.pointwise = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.pointwise.weight)
        assert self.pointwise.bias is not None
        nn.init.zeros_(self.pointwise.bias)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Features of the same shape."""
        change: Tensor = self.pointwise(F.silu(self.spatial(F.silu(self.norm(features)))))
        return features + change


def _encoder(info: AutoencoderInfo, stem_factor: int, num_levels: int, width: int, blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.PixelUnshuffle(stem_factor),
        nn.Conv2d(info.image_channels * stem_factor**2, width, 3, padding=1),
    ]
    for level in range(num_levels):
        if level:
            layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        layers += [ResidualBlock(width) for _ in range(blocks)]
    moments = nn.Conv2d(width, 2 * info.latent_channels, 3, padding=1)
    assert moments.bias is not None
    nn.init.constant_(moments.bias[info.latent_channels :], _INITIAL_LOGVAR)
    return nn.Sequential(*layers, _norm(width), nn.SiLU(), moments)


def _decoder(info: AutoencoderInfo, stem_factor: int, num_levels: int, width: int, blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(info.latent_channels, width, 3, padding=1)]
    for level in range(num_levels):
        if level:
            layers += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2)]
        layers += [ResidualBlock(width) for _ in range(blocks)]
    pixels = nn.Conv2d(width, info.image_channels * stem_factor**2, 3, padding=1)
    return nn.Sequential(*layers, _norm(width), nn.SiLU(), pixels, nn.PixelShuffle(stem_factor))


class PatchShortcut(nn.Module):
    """Linear maps between a patch of ``spatial_factor`` by ``spatial_factor`` pixels and its latent."""

    def __init__(self, info: AutoencoderInfo) -> None:
        super().__init__()
        self.spatial_factor = info.spatial_factor
        patch = info.image_channels * info.spatial_factor**2
        self.to_latent = nn.Conv2d(patch, info.latent_channels, 1, bias=False)
        self.to_patch = nn.Conv2d(info.latent_channels, patch, 1, bias=False)

    def encode(self, images: Images) -> Float[Tensor, "b latent_channels latent_h latent_w"]:
        """The latent of each patch."""
        latents: Tensor = self.to_latent(F.pixel_unshuffle(images, self.spatial_factor))
        return latents

    def decode(self, latents: Latents) -> Float[Tensor, "b image_channels image_h image_w"]:
        """The patch of each latent."""
        return F.pixel_shuffle(self.to_patch(latents), self.spatial_factor)


class CompactKL(Autoencoder):
    """A convolutional encoder and decoder around pixel-unshuffled images.

    The first layer works on images unshuffled by ``stem_factor``: convolutions at full resolution would take most of
    the time. With a patch shortcut, mean and reconstruction are each the sum of the deep path and of a linear map,
    which is learned within the first hundred steps.

    Raises:
        ValueError: images are no ``b c h w``, or their channels or sides do not fit.
    """

    def __init__(
        self,
        *,
        info: AutoencoderInfo,
        stem_factor: int,
        num_levels: int,
        width: int,
        blocks: int,
        patch_shortcut: bool,
    ) -> None:
        assert info.spatial_factor == stem_factor * 2 ** (num_levels - 1)
        super().__init__()
        self.info = info
        self.encoder = _encoder(info, stem_factor, num_levels, width, blocks)
        self.decoder = _decoder(info, stem_factor, num_levels, width, blocks)
        self.shortcut = PatchShortcut(info) if patch_shortcut else None

    @classmethod
    def from_spec(cls, spec: CompactKLSpec, context: BuildContext) -> "CompactKL":
        return cls(
            info=spec.info(context),
            stem_factor=spec.stem_factor,
            num_levels=spec.num_levels,
            width=spec.width,
            blocks=spec.blocks,
            patch_shortcut=spec.patch_shortcut,
        )

    def encode(self, images: Images) -> Posterior:
        """The posterior of images in [-1, 1]; its log variance is in [-30, 20]."""
        if images.ndim != 4:
            raise ValueError(f"compact-kl encodes images of shape (b, c, h, w), got {tuple(images.shape)!r}")
        self.info.latent_shape(tuple(images.shape[1:]))
        images = images.contiguous(memory_format=torch.channels_last)
        mean, logvar = self.encoder(images).to(images.dtype).chunk(2, dim=1)
        if self.shortcut is not None:
            mean = mean + self.shortcut.encode(images)
        return Posterior(mean=mean, logvar=logvar.clamp(*_LOGVAR_RANGE))

    def decode(self, latents: Latents) -> Float[Tensor, "b image_channels *t image_h image_w"]:
        """Images of raw latents of any height and width; not clamped."""
        if latents.ndim != 4 or latents.shape[1] != self.info.latent_channels:
            expected = f"(b, {self.info.latent_channels}, h, w)"
            raise ValueError(f"compact-kl decodes latents of shape {expected}, got {tuple(latents.shape)!r}")
        latents = latents.contiguous(memory_format=torch.channels_last)
        deep: Tensor = self.decoder(latents)
        images = deep.to(latents.dtype)
        return images if self.shortcut is None else images + self.shortcut.decode(latents)

    def part_of(self, parameter: str) -> Literal["encoder", "decoder"] | None:
        """Each half of the patch shortcut goes with its half of the deep path."""
        if parameter.startswith("shortcut."):
            return "encoder" if parameter.startswith("shortcut.to_latent.") else "decoder"
        return super().part_of(parameter)

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The residual blocks of encoder and decoder."""
        return [module for module in self.modules() if isinstance(module, ResidualBlock)]

    def decoder_tail(self) -> Iterable[nn.Module]:
        """The last normalisation and convolution; the patch shortcut is not among them."""
        norm, _, conv, _ = self.decoder[-4:]
        return norm, conv
