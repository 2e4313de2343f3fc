"""Perceptual distances of reconstructions."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError, TrainingError
from diffusability.core.perceptual.distance import PerceptualDistance
from diffusability.core.shapes import Images
from diffusability.eval.reconstruction.reconstruction_mean import ReconstructionMean


class Perceptual(ReconstructionMean):
    """``lpips`` (Zhang et al. 2018) or ``st_lpips`` (Ghildyal & Liu 2022); on VGG16 ``lpips_vgg``, ``st_lpips_vgg``.

    The mean over images of the distance of each reconstruction, on images in [-1, 1], in float32; 0 for equal ones.
    Each frame of a clip is an image.
    """

    higher_is_better = False

    def __init__(self, metric: str, network: PerceptualDistance, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.metric = metric
        self.network = network
        self._settings = settings

    def quality(self, images: Images, reconstruction: Images) -> Float[Tensor, " b"]:
        """The distance of each sample. Raises DataError when images are too small, or neither grey nor in colour."""
        try:
            return self.network.to(images.device)(images, reconstruction)  # type: ignore[no-any-return]
        except TrainingError as error:
            raise DataError(str(error)) from None

    def settings(self) -> Mapping[str, Any]:
        return self._settings
