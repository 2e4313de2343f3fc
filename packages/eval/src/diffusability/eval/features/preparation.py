"""Images as feature networks want them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def in_color(images: Float[Tensor, "n c *t h w"], name: str) -> Float[Tensor, "n three *t h w"]:
    """Float32 images of three channels: grey ones are repeated.

    Raises:
        DataError: they have neither one nor three channels.
    """
    if images.shape[1] not in (1, 3):
        raise DataError(f"features {name!r} take images of 1 or 3 channels, got {images.shape[1]}")
    return images.float().expand(-1, 3, *images.shape[2:])


def resized(
    images: Float[Tensor, "n c h w"], size: int, mode: str = "bicubic", antialias: bool = True
) -> Float[Tensor, "n c s s"]:
    """Images of ``size x size`` pixels, cut to [-1, 1], which bicubic interpolation may leave.

    Images that have this size stay as they are.
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode=mode, antialias=antialias, align_corners=False).clamp(-1, 1)


def normalized(
    images: Float[Tensor, "n c *t h w"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "n c *t h w"]:
    """``(x - mean) / std`` by channel, of images in [-1, 1] brought to [0, 1]."""
    shape = (-1,) + (1,) * (images.ndim - 2)
    shift, scale = (torch.tensor(values, device=images.device).view(shape) for values in (mean, std))
    return ((images + 1) / 2 - shift) / scale
