"""Laplacian pyramids (Burt & Adelson 1983), as Karras et al. 2018 use them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def _blur(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The binomial 5x5 filter, mirrored at the borders without repeating them."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    # Shifted sums instead of a convolution: those stay in the images' precision under autocast.
    rows = torch.zeros_like(padded[..., :height, :])
    blurred = torch.zeros_like(images)
    for k, tap in enumerate(_TAPS):
        rows.add_(padded[..., k : k + height, :], alpha=tap)
    for k, tap in enumerate(_TAPS):
        blurred.add_(rows[..., k : k + width], alpha=tap)
    return blurred


def pyramid_down(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Blurs and keeps every other pixel."""
    return _blur(images)[..., ::2, ::2]


def pyramid_up(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Doubles the sides: zeros between the pixels, then the blur, whose gain makes up for the zeros."""
    count, channels, height, width = images.shape
    spread = images.new_zeros(count, channels, 2 * height, 2 * width)
    spread[..., ::2, ::2] = images
    return 4 * _blur(spread)


def laplacian_pyramid(images: Float[Tensor, "n c h w"], smallest: int = 16) -> list[Float[Tensor, "n c _ _"]]:
    """Band-pass levels from full resolution down, and the low-pass image that is left as the last one.

    Sides are halved as long as they are even and stay at ``smallest`` or more.
    """
    levels = []
    height, width = images.shape[-2:]
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= smallest:
        smaller = pyramid_down(images)
        levels.append(images - pyramid_up(smaller))
        images = smaller
        height, width = images.shape[-2:]
    return [*levels, images]
