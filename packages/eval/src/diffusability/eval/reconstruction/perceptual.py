"""Perceptual distances of reconstructions."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError, TrainingError
from diffusability.core.perceptual.distance import PerceptualDistance
from diffusability.core.perceptual.networks import lpips_network, st_lpips_network
from diffusability.core.perceptual.sources import lpips_files, st_lpips_file
from diffusability.core.published_weights import file_digest
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.reconstruction.reconstruction_mean import ReconstructionMean
from diffusability.eval.specs.reconstruction import LPIPSSpec, STLPIPSSpec


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


class LPIPS(Perceptual):
    """The learned perceptual distance of Zhang et al. 2018, version 0.1."""

    @classmethod
    def from_spec(cls, spec: LPIPSSpec, context: BuildContext) -> "LPIPS":
        metric = "lpips" if spec.network == "alex" else f"lpips_{spec.network}"
        digest = file_digest(lpips_files(spec.network, spec.weights)[0])
        settings = {"network": spec.network, "version": "0.1", "weights": digest}
        return cls(metric, lpips_network(spec.network, spec.weights), settings)


class STLPIPS(Perceptual):
    """The shift-tolerant distance of Ghildyal & Liu 2022."""

    @classmethod
    def from_spec(cls, spec: STLPIPSSpec, context: BuildContext) -> "STLPIPS":
        metric = "st_lpips" if spec.network == "alex" else f"st_lpips_{spec.network}"
        settings = {"network": spec.network, "weights": file_digest(st_lpips_file(spec.network))}
        return cls(metric, st_lpips_network(spec.network), settings)
