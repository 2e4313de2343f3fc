"""SSIM of reconstructions."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.shapes import Images
from diffusability.eval.evaluators.reconstruction_mean import ReconstructionMean
from diffusability.eval.frames import as_frames, mean_of_frames
from diffusability.eval.specs import SSIMSpec
from diffusability.eval.structural_similarity import SIGMA, WINDOW, structural_similarity, to_intensities


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
