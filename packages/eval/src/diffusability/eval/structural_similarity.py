"""Structural similarity of images."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

#: Side in pixels and standard deviation of the Gaussian window of Wang et al. (2004), and their two constants.
WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03


#: What happens at the borders of an image.
Border = Literal["reflect", "valid"]


def to_intensities(images: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Images in [-1, 1] as float32 intensities in [0, 1], for which SSIM is defined: its luminance term compares means
    by their ratio, which a shift of the origin changes."""
    return (images.float() + 1) / 2


def structural_similarity(
    images: Float[Tensor, "n c h w"],
    others: Float[Tensor, "n c h w"],
    data_range: float = 1.0,
    border: Border = "reflect",
) -> Float[Tensor, " n"]:
    """SSIM of each pair of images, in [-1, 1] and float64; 1 for equal ones.

    ``(2 m_x m_y + C1) (2 s_xy + C2) / ((m_x^2 + m_y^2 + C1) (s_x^2 + s_y^2 + C2))`` with means and (co)variances under
    a Gaussian window of 11 x 11 pixels, ``C = (K data_range)^2`` (Wang et al. 2004, equation 13); the mean over
    channels and places. The images are intensities from 0 to ``data_range`` (``to_intensities``); sides must be at
    least ``WINDOW``. The window is a product of two rows, and images are dealt with one by one, so that what is needed
    of one stays in a core's cache.

    Args:
        images: intensities.
        others: what they are compared with.
        data_range: the largest intensity there may be.
        border: ``reflect`` takes the window around every pixel, of images reflected at their borders, as torchmetrics
            does; ``valid`` around those pixels where it fits, as the authors, scikit-image and pytorch_msssim do.
    """
    pairs = zip(images, others, strict=True)
    # In float32 a variance is known to 1e-7 of the squared mean: in bright even parts 1e-4 of C2.
    return torch.stack([_of_one(image.double(), other.double(), data_range, border) for image, other in pairs])


def _of_one(
    x: Float[Tensor, "c h w"], y: Float[Tensor, "c h w"], data_range: float, border: Border
) -> Float[Tensor, ""]:
    if border == "reflect":
        x, y = F.pad(torch.stack([x, y]), [WINDOW // 2] * 4, mode="reflect")
    mean_x, mean_y, square_x, square_y, product = _windowed(torch.stack([x, y, x * x, y * y, x * y]))
    squares, cross = mean_x.square() + mean_y.square(), mean_x * mean_y
    variance_x = (square_x - mean_x.square()).clamp_min(0)
    variance_y = (square_y - mean_y.square()).clamp_min(0)
    covariance = product - cross
    first, second = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    similarity = (2 * cross + first) * (2 * covariance + second)
    mean: Tensor = (similarity / ((squares + first) * (variance_x + variance_y + second))).mean()
    return mean


def _windowed(maps: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h2 w2"]:
    """Weighted means under the window at each place where it fits: first along rows, then along columns."""
    place = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-place.square() / (2 * SIGMA**2))
    for axis in (-1, -2):
        length = maps.shape[axis] - WINDOW + 1
        parts = [maps.narrow(axis, start, length) for start in range(WINDOW)]
        shares = (weights / weights.sum()).tolist()
        maps = parts[0] * shares[0]
        for part, share in zip(parts[1:], shares[1:], strict=True):
            maps.add_(part, alpha=share)
    return maps
