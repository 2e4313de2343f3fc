"""A small causal KL autoencoder of clips, made for few CPU seconds."""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.numerics.axes import as_clips, as_frames
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.models.specs.autoencoders.compact_video_kl import CompactVideoKLSpec

_GROUP_SIZE = 16
_LOGVAR_RANGE = (-30.0, 20.0)
#: Standard deviation 0.05 of the untrained posterior, so that its noise does not drown the first steps.
_INITIAL_LOGVAR = -6.0
_TAPS = 3

Frames = Float[Tensor, "frames c h w"]


def _by_clip(frames: Frames, num_frames: int) -> Float[Tensor, "b num_frames c h w"]:
    return frames.reshape(-1, num_frames, *frames.shape[1:])


def fold_time(clips: Float[Tensor, "b c t h w"], factor: int) -> Float[Tensor, "b t2 c2 h w"]:
    """Groups of ``factor`` frames as channels; the first frame alone is a group, of copies of itself."""
    padded = torch.cat([clips[:, :, :1].expand(-1, -1, factor - 1, -1, -1), clips], dim=2)
    batch, channels, frames, height, width = padded.shape
    groups = padded.reshape(batch, channels, frames // factor, factor, height, width)
    return groups.transpose(1, 2).flatten(2, 3)


def unfold_time(groups: Float[Tensor, "b t2 c2 h w"], factor: int) -> Float[Tensor, "b c t h w"]:
    """The inverse of ``fold_time``: of the first group, only the last frame."""
    batch, num_groups, channels, height, width = groups.shape
    frames = groups.reshape(batch, num_groups, channels // factor, factor, height, width).transpose(1, 2)
    return frames.flatten(2, 3)[:, :, factor - 1 :]


class CausalBlock(nn.Module):
    """``x + temporal(silu(conv3x3(silu(norm(x)))))``; the temporal convolution sees this frame and the two before it.

    Statistics of the normalisation are per frame, so that no frame depends on later ones. The identity when untrained.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(width // _GROUP_SIZE, width)
        self.spatial = nn.Conv2d(width, width, 3, padding=1)
        self.temporal = nn.Conv2d(_TAPS * width, width, 1)  # of three neighbouring frames side by side
        nn.init.zeros_(self.temporal.weight)
        assert self.temporal.bias is not None
        nn.init.zeros_(self.temporal.bias)

    def forward(self, features: Frames, num_frames: int) -> Frames:
        """Features of the same shape; the first axis runs over clips, and within them over ``num_frames`` frames."""
        change = _by_clip(F.silu(self.spatial(F.silu(self.norm(features)))), num_frames)
        padded = torch.cat([change[:, :1].expand(-1, _TAPS - 1, -1, -1, -1), change], dim=1)
        taps = torch.cat([padded[:, tap : tap + num_frames] for tap in range(_TAPS)], dim=2)
        mixed: Tensor = self.temporal(taps.flatten(0, 1))
        return features + mixed


class FrameNetwork(nn.Module):
    """Layers on frames; the causal blocks among them are told how many frames a clip has."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Frames, num_frames: int) -> Float[Tensor, "frames c2 h2 w2"]:
        """Features after all layers."""
        for layer in self.layers:
            features = layer(features, num_frames) if isinstance(layer, CausalBlock) else layer(features)
        return features


def _encoder(pixels: int, latent_channels: int, stem: int, num_levels: int, width: int, blocks: int) -> FrameNetwork:
    layers: list[nn.Module] = [nn.PixelUnshuffle(stem), nn.Conv2d(pixels, width, 3, padding=1)]
    for level in range(num_levels):
        if level:
            layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        layers += [CausalBlock(width) for _ in range(blocks)]
    moments = nn.Conv2d(width, 2 * latent_channels, 3, padding=1)
    assert moments.bias is not None
    nn.init.constant_(moments.bias[latent_channels:], _INITIAL_LOGVAR)
    return FrameNetwork(*layers, nn.GroupNorm(width // _GROUP_SIZE, width), nn.SiLU(), moments)


def _decoder(pixels: int, latent_channels: int, stem: int, num_levels: int, width: int, blocks: int) -> FrameNetwork:
    layers: list[nn.Module] = [nn.Conv2d(latent_channels, width, 3, padding=1)]
    for level in range(num_levels):
        if level:
            layers += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2)]
        layers += [CausalBlock(width) for _ in range(blocks)]
    last = nn.Conv2d(width, pixels, 3, padding=1)
    return FrameNetwork(*layers, nn.GroupNorm(width // _GROUP_SIZE, width), nn.SiLU(), last, nn.PixelShuffle(stem))


class CompactVideoKL(Autoencoder):
    """A causal encoder and decoder of clips with ``1 + n * temporal_factor`` frames.

    The first frame has a latent frame of its own, so that an image is a clip of one frame; each further group of
    ``temporal_factor`` frames has one. Groups are folded into channels before the first layer: all layers work at the
    latents' frame rate. No latent frame depends on later frames, and no frame on later latent frames.

    Raises:
        ValueError: clips are no ``b c t h w``, or their channels, sides or number of frames do not fit.
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
        group = info.image_channels * info.temporal_factor
        sizes = (group * stem_factor**2, info.latent_channels, stem_factor, num_levels, width, blocks)
        self.encoder = _encoder(*sizes)
        self.decoder = _decoder(*sizes)
        patch = group * info.spatial_factor**2
        self.to_latent = nn.Conv2d(patch, info.latent_channels, 1, bias=False) if patch_shortcut else None
        self.to_patch = nn.Conv2d(info.latent_channels, patch, 1, bias=False) if patch_shortcut else None

    @classmethod
    def from_spec(cls, spec: CompactVideoKLSpec, context: BuildContext) -> "CompactVideoKL":
        return cls(
            info=spec.info(context),
            stem_factor=spec.stem_factor,
            num_levels=spec.num_levels,
            width=spec.width,
            blocks=spec.blocks,
            patch_shortcut=spec.patch_shortcut,
        )

    def encode(self, images: Images) -> Posterior:
        """The posterior of clips in [-1, 1]; its log variance is in [-30, 20]."""
        if images.ndim != 5:
            raise ValueError(f"compact-video-kl encodes clips of shape (b, c, t, h, w), got {tuple(images.shape)!r}")
        self.info.latent_shape(tuple(images.shape[1:]))
        groups = fold_time(images, self.info.temporal_factor)
        num_frames = groups.shape[1]
        frames = groups.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        mean, logvar = self.encoder(frames, num_frames).to(images.dtype).chunk(2, dim=1)
        if self.to_latent is not None:
            mean = mean + self.to_latent(F.pixel_unshuffle(frames, self.info.spatial_factor)).to(images.dtype)
        return Posterior(mean=_as_clips(mean, num_frames), logvar=_as_clips(logvar.clamp(*_LOGVAR_RANGE), num_frames))

    def decode(self, latents: Latents) -> Float[Tensor, "b image_channels *image_t image_h image_w"]:
        """Clips of raw latents of any height, width and number of frames; not clamped."""
        if latents.ndim != 5 or latents.shape[1] != self.info.latent_channels:
            expected = f"(b, {self.info.latent_channels}, t, h, w)"
            raise ValueError(f"compact-video-kl decodes latents of shape {expected}, got {tuple(latents.shape)!r}")
        num_frames = latents.shape[2]
        frames = as_frames(latents).contiguous(memory_format=torch.channels_last)
        decoded: Tensor = self.decoder(frames, num_frames)
        if self.to_patch is not None:
            decoded = decoded + F.pixel_shuffle(self.to_patch(frames), self.info.spatial_factor)
        return unfold_time(_by_clip(decoded.to(latents.dtype), num_frames), self.info.temporal_factor)

    def part_of(self, parameter: str) -> Literal["encoder", "decoder"] | None:
        """Each half of the patch shortcut goes with its half of the deep path."""
        if parameter.startswith("to_"):
            return "encoder" if parameter.startswith("to_latent.") else "decoder"
        return super().part_of(parameter)

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The residual blocks of encoder and decoder."""
        return [module for module in self.modules() if isinstance(module, CausalBlock)]

    def decoder_tail(self) -> Iterable[nn.Module]:
        """The last normalisation and convolution; the patch shortcut is not among them."""
        norm, _, conv, _ = self.decoder.layers[-4:]
        return norm, conv


def _as_clips(frames: Frames, num_frames: int) -> Float[Tensor, "b c t h w"]:
    return as_clips(frames, len(frames) // num_frames).contiguous()
