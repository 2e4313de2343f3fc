"""What a YAML file says of CLIP features. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.extras import require_package
from diffusability.core.published_weights import PublishedSnapshot
from diffusability.core.specs.components import FeaturesSpec

if TYPE_CHECKING:
    pass

PURPOSE = "feature extractor 'clip'"

CLIPModel = Literal["vit-large-patch14-336", "vit-large-patch14", "vit-base-patch16", "vit-base-patch32"]

#: Length of an embedding, side of an image, and size of the weights in MiB.
MODELS: dict[str, tuple[int, int, int]] = {
    "vit-large-patch14-336": (768, 336, 1631),
    "vit-large-patch14": (768, 224, 1631),
    "vit-base-patch16": (512, 224, 571),
    "vit-base-patch32": (512, 224, 577),
}


class CLIPSpec(FeaturesSpec):
    """Image embeddings of OpenAI's CLIP; CMMD is the kernel distance in those of ViT-L/14 at 336 pixels."""

    kind: Literal["clip"] = "clip"
    builds: ClassVar[str] = "diffusability.eval.features.clip:CLIP"

    model: CLIPModel = "vit-large-patch14-336"
    weights: Path | None = Field(None, description="folder with config.json and weights; default: Hugging Face's cache")

    def label(self) -> str:
        return "clip" if self.model == "vit-large-patch14-336" else f"clip_{self.model.replace('-', '_')}"

    def num_features(self) -> int:
        return MODELS[self.model][0]

    def snapshot(self) -> tuple[Path, Path]:
        """The folder of the model and its weight file.

        Raises:
            ValueError: they are missing.
        """
        published = PublishedSnapshot(
            purpose=f"{PURPOSE} with model {self.model!r}",
            repository=f"openai/clip-{self.model}",
            size_mib=MODELS[self.model][2],
        )
        return published.locate(self.weights)

    def check_inputs(self) -> None:
        require_package("transformers", PURPOSE, "clip", "diffusability-eval")
        self.snapshot()
