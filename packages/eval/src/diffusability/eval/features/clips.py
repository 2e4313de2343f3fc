"""Clips as feature networks want them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError


def resized_clips(
    clips: Float[Tensor, "b c t h w"], size: int, *, mode: str = "bilinear", antialias: bool
) -> Float[Tensor, "b c t s s"]:
    """Every frame at ``size x size`` pixels; clips of this size stay as they are."""
    if clips.shape[-2:] == (size, size):
        return clips
    frames = clips.transpose(1, 2).flatten(0, 1)
    frames = F.interpolate(frames, (size, size), mode=mode, antialias=antialias, align_corners=False)
    return frames.reshape(len(clips), -1, *frames.shape[1:]).transpose(1, 2)


def sampled_frames(clips: Float[Tensor, "b c t h w"], count: int, name: str) -> Float[Tensor, "b c count h w"]:
    """``count`` frames at even distances, the first and the last among them.

    Raises:
        DataError: there are fewer.
    """
    frames = clips.shape[2]
    if frames < count:
        raise DataError(f"features {name!r} take clips of at least {count} frames, got {frames}")
    places = torch.linspace(0, frames - 1, count, device=clips.device).round().long()
    return clips[:, :, places]
