"""PSNR of reconstructions."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.numerics.axes import as_frames
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.frames import mean_of_frames
from diffusability.eval.reconstruction.reconstruction_mean import ReconstructionMean
from diffusability.eval.specs.reconstruction import PSNRSpec


def psnr_per_image(
    images: Float[Tensor, "n c h w"], reconstruction: Float[Tensor, "n c h w"], data_range: float = 2.0
) -> Float[Tensor, " n"]:
    """``10 log10(data_range^2 / MSE)`` of each image, in dB and float64; infinite for equal images.

    The default range is that of images in [-1, 1]. The MSE is taken over the pixels and channels of one image.
    """
    error = images.double() - reconstruction.double()
    return 10 * torch.log10(data_range**2 / error.square().mean((1, 2, 3)))


#: An image's PSNR is cut off here, so that a perfect reconstruction does not make the mean infinite; float32 images in
#: [-1, 1] that differ by rounding alone are above it. dB.
MAX_PSNR = 120.0


class PSNR(ReconstructionMean):
    """``psnr``: the mean over images of each image's PSNR, in dB, data range 2. Each frame of a clip is an image."""

    metric = "psnr"
    unit = "dB"
    higher_is_better = True

    @classmethod
    def from_spec(cls, spec: PSNRSpec, context: BuildContext) -> "PSNR":
        return cls()

    def quality(self, images: Images, reconstruction: Images) -> Float[Tensor, " b"]:
        values = psnr_per_image(as_frames(images), as_frames(reconstruction)).clamp(max=MAX_PSNR)
        return mean_of_frames(values, len(images))

    def settings(self) -> Mapping[str, Any]:
        return {"data_range": 2.0, "max_psnr": MAX_PSNR}
