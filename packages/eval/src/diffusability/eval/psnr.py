"""Peak signal-to-noise ratio."""

import torch
from jaxtyping import Float
from torch import Tensor


def psnr_per_image(
    images: Float[Tensor, "n c h w"], reconstruction: Float[Tensor, "n c h w"], data_range: float = 2.0
) -> Float[Tensor, " n"]:
    """``10 log10(data_range^2 / MSE)`` of each image, in dB and float64; infinite for equal images.

    The default range is that of images in [-1, 1]. The MSE is taken over the pixels and channels of one image.
    """
    error = images.double() - reconstruction.double()
    return 10 * torch.log10(data_range**2 / error.square().mean((1, 2, 3)))
