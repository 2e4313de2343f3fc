"""What a YAML file says of Inception features. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.extras import require_package
from diffusability.core.published_weights import PublishedWeights
from diffusability.core.specs.components import FeaturesSpec

if TYPE_CHECKING:
    pass

PURPOSE = "feature extractor 'inception'"

WEIGHTS = PublishedWeights(
    purpose=PURPOSE,
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    size_mib=91,
)

InceptionLayer = Literal["64", "192", "768", "2048", "spatial", "logits_unbiased", "logits"]

#: Length of a feature vector of each layer.
LENGTHS: dict[str, int] = {
    "64": 64,
    "192": 192,
    "768": 768,
    "2048": 2048,
    "spatial": 2023,
    "logits_unbiased": 1008,
    "logits": 1008,
}


class InceptionSpec(FeaturesSpec):
    """The Inception network of 2015 that FID, sFID and Inception score are defined by, with its own resize."""

    kind: Literal["inception"] = "inception"
    builds: ClassVar[str] = "diffusability.eval.features.inception:Inception"

    layer: InceptionLayer = Field("2048", description="2048 for FID, spatial for sFID, logits_unbiased for its score")
    weights: Path | None = Field(None, description="torch-fidelity's weight file; default: torch.hub's cache")

    def label(self) -> str:
        return "inception" if self.layer == "2048" else f"inception_{self.layer}"

    def frechet_name(self) -> str:
        return {"2048": "fid", "spatial": "sfid"}.get(self.layer, f"frechet_{self.label()}")

    def num_features(self) -> int:
        return LENGTHS[self.layer]

    def has_published_statistics(self) -> bool:
        return self.layer in ("2048", "spatial")

    def gives_logits(self) -> bool:
        return self.layer.startswith("logits")

    def check_inputs(self) -> None:
        require_package("torch_fidelity", PURPOSE, "inception", "diffusability-eval")
        WEIGHTS.locate(self.weights)
