"""Features of EfficientNet-Lite0, -Lite1 and -Lite2, small ImageNet classifiers whose weights come with packages."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.published_weights import file_digest
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.preparation import in_color, normalized, resized
from diffusability.eval.features.weights import fill, read_tensors
from diffusability.eval.specs.features.efficientnet_lite import EfficientNetLiteSpec

#: The networks were trained on ``(pixel - 127) / 128``.
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3


class EfficientNetLite(FeatureExtractor):
    """Pooled features of the last layer, 1,280 numbers that are not negative, or the 1,000 logits.

    EfficientNet-Lite (Tan & Le 2019; the Lite variants have ReLU6 and no squeeze-and-excitation), trained on
    ImageNet-1k. Images are rounded to bytes and resized to the network's own side (224, 240 or 260 pixels), bicubic
    with antialiasing. Its Frechet distance is not FID.
    """

    def __init__(self, spec: EfficientNetLiteSpec) -> None:
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        self.kind, self.layer, self.side = spec.kind, spec.layer, spec.side
        self.dimension = spec.num_features()
        weights = spec.weights_file()
        self.network = EfficientNet.from_name(spec.kind)
        fill(self.network, read_tensors(weights), weights)
        self.network.to(memory_format=torch.channels_last)
        self._digest = file_digest(weights)

    @classmethod
    def from_spec(cls, spec: EfficientNetLiteSpec, context: BuildContext) -> "EfficientNetLite":
        spec.check_inputs()
        return cls(spec)

    def forward(self, images: Images) -> Float[Tensor, "b d"]:
        """Features of images in [-1, 1] of any size."""
        pooled = self.feature_map(images).mean((2, 3))
        return pooled if self.layer == "pooled" else self.network._fc(pooled)

    def feature_map(self, images: Images) -> Float[Tensor, "b d i j"]:
        """The 1,280 features by place: a place for 32 x 32 pixels of the resized image, so 7 x 7 of Lite0."""
        with torch.autocast(images.device.type, enabled=False):
            prepared = normalized(resized(in_color(images, self.kind), self.side), MEAN, STD)
            # Depthwise convolutions are twice as fast on CPUs with channels last.
            features: Tensor = self.network.extract_features(prepared.contiguous(memory_format=torch.channels_last))
        return features

    def settings(self) -> Mapping[str, Any]:
        return {
            "layer": self.layer,
            "weights": self._digest,
            "resize": f"bicubic, antialias, {self.side} px, of bytes",
        }
