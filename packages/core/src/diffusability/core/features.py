"""The contract of a feature extractor for distances between sets of images."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.shapes import Images


class FeatureExtractor(nn.Module, ABC):
    """Maps images to feature vectors, with the resize and normalisation that its metric prescribes.

    Attributes:
        dimension: length of a feature vector.
    """

    dimension: int

    @abstractmethod
    def forward(self, images: Images) -> Float[Tensor, "b d"]:
        """Features of images in [-1, 1]."""
