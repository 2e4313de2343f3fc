"""MS-SSIM of reconstructions."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import as_frames
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.frames import mean_of_frames
from diffusability.eval.reconstruction.reconstruction_mean import ReconstructionMean
from diffusability.eval.reconstruction.ssim import to_intensities
from diffusability.eval.specs.reconstruction import MS_SSIM_SMALLEST_SIDE, MSSSIMSpec

WINDOW = 11
SIGMA = 1.5
#: Weights of the five scales (Wang et al. 2003, section 3.2).
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class MSSSIM(ReconstructionMean):
    """``ms_ssim``: the mean over images of SSIM at five scales (Wang, Simoncelli & Bovik 2003), by torchmetrics.

    Of intensities ``(x + 1) / 2`` with data range 1. In [0, 1]: similarities below 0 count as 0. The window as for
    SSIM, images reflected at their borders for the luminance and windows that fit for the rest. Images have at least
    176 pixels a side. Each frame of a clip is an image.
    """

    metric = "ms_ssim"
    higher_is_better = True

    @classmethod
    def from_spec(cls, spec: MSSSIMSpec, context: BuildContext) -> "MSSSIM":
        return cls()

    def quality(self, images: Images, reconstruction: Images) -> Float[Tensor, " b"]:
        """MS-SSIM of each sample. Raises DataError when an image is too small for five scales."""
        height, width = images.shape[-2:]
        if min(height, width) < MS_SSIM_SMALLEST_SIDE:
            raise DataError(
                f"MS-SSIM needs images of at least {MS_SSIM_SMALLEST_SIDE} pixels a side, got {height}x{width};"
                " use ssim for smaller ones"
            )
        with torch.autocast(images.device.type, enabled=False):
            values = multiscale_structural_similarity_index_measure(
                to_intensities(as_frames(reconstruction)),
                to_intensities(as_frames(images)),
                data_range=1.0,
                kernel_size=WINDOW,
                sigma=SIGMA,
                betas=WEIGHTS,
                reduction="none",
            )
        return mean_of_frames(values, len(images))

    def settings(self) -> Mapping[str, Any]:
        return {"data_range": 1.0, "window": WINDOW, "sigma": SIGMA, "weights": list(WEIGHTS)}
