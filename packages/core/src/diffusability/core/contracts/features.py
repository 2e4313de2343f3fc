"""The contract of a feature extractor for distances between sets of images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.from_spec import FromSpec
from diffusability.core.shapes import Images


class FeatureExtractor(nn.Module, FromSpec, ABC):
    """Maps images to feature vectors, with the resize and normalisation that its metric prescribes.

    Attributes:
        dimension: length of a feature vector.
    """

    dimension: int

    @abstractmethod
    def forward(self, images: Images) -> Float[Tensor, "b d"]:
        """Features of images (or of clips, where the spec says ``takes = "clips"``) in [-1, 1]."""

    def feature_map(self, images: Images) -> Float[Tensor, "b d i j"]:
        """Features by place, before they are pooled, of images in [-1, 1].

        Raises:
            TypeError: this extractor gives one vector per image only.
        """
        raise TypeError(f"{type(self).__name__} gives one feature vector per image, not a map")

    def settings(self) -> Mapping[str, Any]:
        """What its features depend on besides the image, for results and statistics to record.

        Everything that would change the numbers: the weights by their digest, layer, size, how images are resized.
        Statistics that were made with other settings are rejected.
        """
        return {}
