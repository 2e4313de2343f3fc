"""Downsampling, of images and of latents alike."""

from typing import Literal, get_args

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusability.core.numerics.axes import as_clips, as_frames
from diffusability.core.shapes import Images

Resampling = Literal["bilinear", "mean", "antialias"]


def downsample(images: Images, factor: int, method: Resampling = "bilinear") -> Float[Tensor, "b c *t small_h small_w"]:
    """Shrinks height and width by an integer factor.

    ``bilinear`` interpolates at the new pixel centres, as ``F.interpolate(mode="bilinear", align_corners=False)``;
    ``mean`` pools blocks; ``antialias`` is bilinear with a triangle filter as wide as the factor. At factor 2
    ``bilinear`` and ``mean`` agree; above it, ``bilinear`` aliases: at factor 4 it reads 4 of 16 pixels. The time axis
    of clips is left alone.

    Raises:
        ValueError: the factor does not divide a side, or leaves no pixel.
    """
    height, width = images.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"a {height}x{width} map cannot be downsampled by {factor}")
    _check_method(method)
    if factor == 1:
        return images
    return resize(images, (height // factor, width // factor), method)


def resize(
    images: Images, size: tuple[int, int], method: Resampling = "bilinear"
) -> Float[Tensor, "b c *t small_h small_w"]:
    """Shrinks height and width to any smaller size, with the methods of ``downsample``.

    ``mean`` averages the pixels under each new one, whole pixels only. The time axis of clips is left alone.

    Raises:
        ValueError: a side would grow or vanish, or the method is unknown.
    """
    _check_method(method)
    height, width = images.shape[-2:]
    if not (1 <= size[0] <= height and 1 <= size[1] <= width):
        raise ValueError(f"a {height}x{width} map cannot be shrunk to {size[0]}x{size[1]}")
    if size == (height, width):
        return images
    frames = as_frames(images)
    if method == "mean":
        small = F.adaptive_avg_pool2d(frames, size)
    else:
        small = F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=method == "antialias")
    return as_clips(small, len(images)) if images.ndim == 5 else small


def _check_method(method: str) -> None:
    if method not in get_args(Resampling):
        raise ValueError(f"unknown resampling {method!r}; expected 'bilinear', 'mean' or 'antialias'")
