"""Tiny AutoEncoders, in the layout and with the parameter names in which their weights are published."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.errors import CheckpointError
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.weight_prefixes import without_prefix
from diffusability.models.specs.autoencoders.taesd import TaesdSpec
from diffusability.models.weight_files import read_weight_file

_NUM_LEVELS = 3
_BLOCKS_PER_LEVEL = 3
_POOL_EXPANSION = 4
_POOL_GROUPS = 4
_CLAMP = 3.0


def _conv(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


class SoftClamp(nn.Module):
    """``3 tanh(x / 3)``: latents beyond three standard deviations have no say."""

    def forward(self, latents: Latents) -> Latents:
        """Latents in (-3, 3)."""
        return torch.tanh(latents / _CLAMP) * _CLAMP


class TinyBlock(nn.Module):
    """``relu(x + convs(x))`` of three convolutions; with a pool, x is first replaced by ``x + pool(x)``."""

    def __init__(self, width: int, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width))
        self.pool: nn.Sequential | None = None
        if pooled:
            inner = _POOL_EXPANSION * width
            self.pool = nn.Sequential(
                nn.Conv2d(width, inner, 1, bias=False),
                nn.GroupNorm(_POOL_GROUPS, inner),
                nn.ReLU(),
                nn.Conv2d(inner, width, 1, bias=False),
            )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Features of the same shape, not negative."""
        if self.pool is not None:
            features = features + self.pool(features)
        return torch.relu(self.conv(features) + features)


def _encoder(latent_channels: int, width: int, pooled: bool) -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3, width), TinyBlock(width, pooled=False)]
    for level in range(_NUM_LEVELS):
        lowest = level == _NUM_LEVELS - 1
        layers.append(_conv(width, width, stride=2, bias=False))
        layers += [TinyBlock(width, pooled and lowest) for _ in range(_BLOCKS_PER_LEVEL)]
    return nn.Sequential(*layers, _conv(width, latent_channels))


def _decoder(latent_channels: int, width: int, pooled: bool) -> nn.Sequential:
    layers: list[nn.Module] = [SoftClamp(), _conv(latent_channels, width), nn.ReLU()]
    for level in range(_NUM_LEVELS):
        layers += [TinyBlock(width, pooled and level == 0) for _ in range(_BLOCKS_PER_LEVEL)]
        layers += [nn.Upsample(scale_factor=2), _conv(width, width, bias=False)]
    return nn.Sequential(*layers, TinyBlock(width, pooled=False), _conv(width, 3))


class Taesd(Autoencoder):
    """A Tiny AutoEncoder (Ollin Boer Bohan, github.com/madebyollin/taesd): no distribution, images in [0, 1] inside.

    The latents of TAESD, TAESDXL, TAESD3 and TAEF1 are those that the diffusion model sees: their published scale is 1.
    Those of TAEF2 are the raw latents of FLUX.2's autoencoder.

    Raises:
        ValueError: images or latents do not have the shape that is expected.
    """

    def __init__(self, *, info: AutoencoderInfo, width: int, pooled_mid_blocks: bool) -> None:
        super().__init__()
        self.info = info
        self.pooled_mid_blocks = pooled_mid_blocks
        self.encoder = _encoder(info.latent_channels, width, pooled_mid_blocks)
        self.decoder = _decoder(info.latent_channels, width, pooled_mid_blocks)

    @classmethod
    def from_spec(cls, spec: TaesdSpec, context: BuildContext) -> "Taesd":
        autoencoder = cls(info=spec.info(context), width=spec.width, pooled_mid_blocks=spec.pooled_mid_blocks)
        for half, path in ((autoencoder.encoder, spec.encoder), (autoencoder.decoder, spec.decoder)):
            if path is not None and not context.untrained:
                load_half(half, path, spec.latent_channels)
        autoencoder.spec = spec.model_copy(update={"encoder": None, "decoder": None})  # rebuilt without these files
        return autoencoder

    def encode(self, images: Images) -> Posterior:
        """The latents of images in [-1, 1], as a posterior without variance."""
        if images.ndim != 4:
            raise ValueError(f"taesd encodes images of shape (b, c, h, w), got {tuple(images.shape)!r}")
        self.info.latent_shape(tuple(images.shape[1:]))
        return Posterior(mean=self.encoder(images.add(1).div(2)).to(images.dtype))

    def decode(self, latents: Latents) -> Float[Tensor, "b image_channels *image_t image_h image_w"]:
        """Images of latents of any height and width, nominally in [-1, 1]; not clamped."""
        if latents.ndim != 4 or latents.shape[1] != self.info.latent_channels:
            expected = f"(b, {self.info.latent_channels}, h, w)"
            raise ValueError(f"taesd decodes latents of shape {expected}, got {tuple(latents.shape)!r}")
        decoded: Tensor = self.decoder(latents).to(latents.dtype)
        return decoded.mul(2).sub(1)

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The residual blocks of encoder and decoder."""
        return [module for module in self.modules() if isinstance(module, TinyBlock)]

    def decoder_tail(self) -> Iterable[nn.Module]:
        """The last convolution; there is no normalisation before it."""
        return (self.decoder[-1],)

    def published_normalizer(self) -> LatentNormalizer | None:
        """Shift 0 and scale 1, except for TAEF2, for which nothing is published."""
        return None if self.pooled_mid_blocks else LatentNormalizer.identity(self.info.latent_channels)

    def exchange_library(self) -> str:
        """Diffusers, whose AutoencoderTiny has no pooled blocks; of those, the layout is this project's own."""
        return "diffusability" if self.pooled_mid_blocks else "diffusers"

    def export(self, directory: Path) -> None:
        """Writes an AutoencoderTiny of diffusers; with pooled blocks, what the kind ``saved`` reads."""
        if self.pooled_mid_blocks:
            super().export(directory)
            return
        from diffusers import AutoencoderTiny

        widths = (self.encoder[0].out_channels,) * (_NUM_LEVELS + 1)
        tiny: Any = AutoencoderTiny(  # type: ignore[no-untyped-call]
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            latent_channels=self.info.latent_channels,
        )
        tiny.load_state_dict(diffusers_weights(self))
        tiny.save_pretrained(directory, safe_serialization=True)


def diffusers_weights(autoencoder: Taesd) -> dict[str, Tensor]:
    """The weights under the names of diffusers, whose decoder has no layer for the clamp."""
    encoder = {f"encoder.layers.{name}": value for name, value in autoencoder.encoder.state_dict().items()}
    decoder = {}
    for name, value in autoencoder.decoder.state_dict().items():
        index, _, rest = name.partition(".")
        decoder[f"decoder.layers.{int(index) - 1}.{rest}"] = value
    return encoder | decoder


def load_half(half: nn.Sequential, path: Path, latent_channels: int) -> None:
    """Fills an encoder or a decoder with the weights of a file.

    Raises:
        CheckpointError: the file cannot be read, or is not one of this layout.
    """
    try:
        half.load_state_dict(without_prefix(read_weight_file(path), half.state_dict(), path))
    except RuntimeError as error:
        details = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise CheckpointError(
            f"{str(path)!r} does not hold the weights of a Tiny AutoEncoder with {latent_channels} latent channels:"
            f" {details}; see latent_channels and pooled_mid_blocks"
        ) from None
