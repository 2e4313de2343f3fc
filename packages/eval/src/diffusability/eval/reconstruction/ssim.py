"""SSIM of reconstructions."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import as_frames
from diffusability.core.shapes import Images
from diffusability.eval.frames import mean_of_frames
from diffusability.eval.reconstruction.reconstruction_mean import ReconstructionMean
from diffusability.eval.specs.reconstruction import SSIMSpec

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


class SSIM(ReconstructionMean):
    """``ssim``: the mean over images of each image's SSIM (Wang et al. 2004), in [-1, 1].

    Of intensities ``(x + 1) / 2`` with data range 1: Gaussian window of 11x11 pixels and sigma 1.5, each channel by
    itself. Each frame of a clip is an image.
    """

    metric = "ssim"
    higher_is_better = True

    def __init__(self, spec: SSIMSpec) -> None:
        super().__init__()
        self.spec = spec

    def quality(self, images: Images, reconstruction: Images) -> Float[Tensor, " b"]:
        """SSIM of each sample. Raises DataError when an image is smaller than the window."""
        height, width = images.shape[-2:]
        if min(height, width) < WINDOW:
            raise DataError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, got {height}x{width}")
        values = structural_similarity(
            to_intensities(as_frames(images)), to_intensities(as_frames(reconstruction)), border=self.spec.border
        )
        return mean_of_frames(values, len(images))

    def settings(self) -> Mapping[str, Any]:
        return {"data_range": 1.0, "window": WINDOW, "sigma": SIGMA, "border": self.spec.border}
