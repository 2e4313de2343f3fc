"""What a YAML file says of DINOv2 features. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.extras import require_package
from diffusability.core.published_weights import PublishedWeights, hub_snapshots
from diffusability.core.specs.components import FeaturesSpec

if TYPE_CHECKING:
    pass

PURPOSE = "feature extractor 'dinov2'"

DINOv2Model = Literal["vits14", "vitb14", "vitl14"]

#: Feature lengths.
LENGTHS: dict[str, int] = {"vits14": 384, "vitb14": 768, "vitl14": 1024}

#: timm's names of the architectures; its published weights are in ``timm/NAME.lvd142m``.
TIMM_NAMES: dict[str, str] = {
    "vits14": "vit_small_patch14_dinov2",
    "vitb14": "vit_base_patch14_dinov2",
    "vitl14": "vit_large_patch14_dinov2",
}

WEIGHTS: dict[str, PublishedWeights] = {
    model: PublishedWeights(
        purpose=f"{PURPOSE} with model {model!r}",
        url=f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{model}/dinov2_{model}_pretrain.pth",
        size_mib=size,
    )
    for model, size in {"vits14": 84, "vitb14": 330, "vitl14": 1161}.items()
}


class DINOv2Spec(FeaturesSpec):
    """DINOv2, a self-supervised vision transformer; the Frechet distance in its ViT-L/14 is FDD."""

    kind: Literal["dinov2"] = "dinov2"
    builds: ClassVar[str] = "diffusability.eval.features.dinov2:DINOv2"

    model: DINOv2Model = "vitl14"
    weights: Path | None = Field(
        None, description="the authors' file or timm's; default: torch.hub's cache, then timm's in Hugging Face's"
    )

    def label(self) -> str:
        return f"dinov2_{self.model}"

    def frechet_name(self) -> str:
        return "fdd" if self.model == "vitl14" else f"frechet_{self.label()}"

    def num_features(self) -> int:
        return LENGTHS[self.model]

    def weights_file(self) -> Path:
        """The file with the weights.

        Raises:
            ValueError: it is missing.
        """
        published = WEIGHTS[self.model]
        try:
            return published.locate(self.weights)
        except ValueError:
            repository = f"timm/{TIMM_NAMES[self.model]}.lvd142m"
            for folder in [] if self.weights is not None else hub_snapshots(repository):
                if (folder / "model.safetensors").is_file():
                    return folder / "model.safetensors"
            raise

    def check_inputs(self) -> None:
        require_package("timm", PURPOSE, "dinov2", "diffusability-eval")
        self.weights_file()
