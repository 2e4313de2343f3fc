"""Images as feature networks want them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import per_channel

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def as_bytes(images: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Pixels from 0 to 255, as in an image file, of images in [-1, 1]."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def rounded_to_bytes(images: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Images in [-1, 1] as they come back from a file that keeps bytes, in float32; NaN stays."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def in_color(images: Float[Tensor, "n c *t h w"], name: str) -> Float[Tensor, "n three *t h w"]:
    """Images of three channels as a file would have them: rounded to bytes, in float32; grey ones are repeated.

    Published distances are of files. Pixels between bytes, as a decoder gives them, would make another number.

    Raises:
        DataError: they have neither one nor three channels.
    """
    if images.shape[1] not in (1, 3):
        raise DataError(f"features {name!r} take images of 1 or 3 channels, got {images.shape[1]}")
    return rounded_to_bytes(images).expand(-1, 3, *images.shape[2:])


def resized(
    images: Float[Tensor, "n c h w"], size: int, mode: str = "bicubic", antialias: bool = True, clamp: bool = True
) -> Float[Tensor, "n c s s"]:
    """Images of ``size x size`` pixels; with ``clamp`` cut to [-1, 1], which bicubic interpolation may leave.

    Images that have this size stay as they are.
    """
    if images.shape[-2:] == (size, size):
        return images
    scaled = F.interpolate(images, (size, size), mode=mode, antialias=antialias, align_corners=False)
    return scaled.clamp(-1, 1) if clamp else scaled


def resized_as_pillow(images: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c s s"]:
    """Images of ``size x size`` pixels as Pillow makes them of bytes: bicubic with antialiasing, first along rows and
    then along columns, rounded and cut to bytes after each. Images that have this size stay as they are."""
    for shape in ((images.shape[-2], size), (size, size)):
        if images.shape[-2:] != shape:
            images = rounded_to_bytes(F.interpolate(images, shape, mode="bicubic", antialias=True, align_corners=False))
    return images


def normalized(
    images: Float[Tensor, "n c *t h w"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "n c *t h w"]:
    """``(x - mean) / std`` by channel, of images in [-1, 1] brought to [0, 1]."""
    shift, scale = (per_channel(torch.tensor(values, device=images.device), images) for values in (mean, std))
    return ((images + 1) / 2 - shift) / scale
