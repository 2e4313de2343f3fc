"""Features of EfficientNet-Lite0, a small ImageNet classifier whose weights come with a package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.published_weights import file_digest
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.preparation import in_color, normalized, resized
from diffusability.eval.features.weights import fill, read_tensors
from diffusability.eval.specs.features.efficientnet_lite0 import EfficientNetLite0Spec

SIZE = 224
#: The network was trained on ``(pixel - 127) / 128``.
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3


class EfficientNetLite0(FeatureExtractor):
    """Pooled features of the last layer, 1,280 numbers that are not negative, or the 1,000 logits.

    EfficientNet-Lite0 (Tan & Le 2019; the Lite variants have ReLU6 and no squeeze-and-excitation), trained on
    ImageNet-1k. Images are rounded to bytes and resized to 224 pixels, bicubic with antialiasing. Its Frechet distance
    is not FID.
    """

    def __init__(self, weights: Path, layer: Literal["pooled", "logits"] = "pooled") -> None:
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        self.layer = layer
        self.dimension = 1280 if layer == "pooled" else 1000
        self.network = EfficientNet.from_name("efficientnet-lite0")
        fill(self.network, read_tensors(weights), weights)
        self.network.to(memory_format=torch.channels_last)
        self._digest = file_digest(weights)

    @classmethod
    def from_spec(cls, spec: EfficientNetLite0Spec, context: BuildContext) -> "EfficientNetLite0":
        spec.check_inputs()
        return cls(spec.weights_file(), spec.layer)

    def forward(self, images: Images) -> Float[Tensor, "b d"]:
        """Features of images in [-1, 1] of any size."""
        pooled = self.feature_map(images).mean((2, 3))
        return pooled if self.layer == "pooled" else self.network._fc(pooled)

    def feature_map(self, images: Images) -> Float[Tensor, "b d i j"]:
        """The 1,280 features at 7 x 7 places."""
        with torch.autocast(images.device.type, enabled=False):
            prepared = normalized(resized(in_color(images, "efficientnet-lite0"), SIZE), MEAN, STD)
            # Depthwise convolutions are twice as fast on CPUs with channels last.
            features: Tensor = self.network.extract_features(prepared.contiguous(memory_format=torch.channels_last))
        return features

    def settings(self) -> Mapping[str, Any]:
        return {
            "layer": self.layer,
            "weights": self._digest,
            "resize": f"bicubic, antialias, {SIZE} px, of bytes",
        }
