"""Clips as feature networks want them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import as_clips, as_frames


def resized_clips(
    clips: Float[Tensor, "b c t h w"], size: int, *, mode: str = "bilinear", antialias: bool
) -> Float[Tensor, "b c t s s"]:
    """Every frame at ``size x size`` pixels; clips of this size stay as they are."""
    if clips.shape[-2:] == (size, size):
        return clips
    frames = F.interpolate(as_frames(clips), (size, size), mode=mode, antialias=antialias, align_corners=False)
    return as_clips(frames, len(clips))


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
