"""What a YAML file says of VideoMAE features. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.extras import require_package
from diffusability.core.published_weights import PublishedSnapshot
from diffusability.core.specs.components import FeaturesSpec

if TYPE_CHECKING:
    pass

PURPOSE = "feature extractor 'videomae'"

#: Frames that the published networks see.
NUM_FRAMES = 16

VideoMAEModelName = Literal[
    "large-finetuned-kinetics", "base-finetuned-kinetics", "base-finetuned-ssv2", "large", "base"
]


class VideoMAESpec(FeaturesSpec):
    """VideoMAE, a self-supervised video transformer, less blind to motion than I3D; for clips of 16 frames or more."""

    kind: Literal["videomae"] = "videomae"
    builds: ClassVar[str] = "diffusability.eval.features.videomae:VideoMAE"
    takes: ClassVar[Literal["images", "clips"]] = "clips"

    model: VideoMAEModelName = "large-finetuned-kinetics"
    weights: Path | None = Field(None, description="folder with config.json and weights; default: Hugging Face's cache")

    def label(self) -> str:
        return f"videomae_{self.model.replace('-', '_')}"

    def num_features(self) -> int:
        return 1024 if self.model.startswith("large") else 768

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        super().check_images(image_shape)
        if image_shape[1] < NUM_FRAMES:
            raise ValueError(
                f"features {self.label()!r} take clips of {NUM_FRAMES} frames or more, got {image_shape[1]}"
            )

    def snapshot(self) -> tuple[Path, Path]:
        """The folder of the model and its weight file.

        Raises:
            ValueError: they are missing.
        """
        published = PublishedSnapshot(
            purpose=f"{PURPOSE} with model {self.model!r}",
            repository=f"MCG-NJU/videomae-{self.model}",
            size_mib=1160 if self.model.startswith("large") else 330,
        )
        return published.locate(self.weights)

    def check_inputs(self) -> None:
        require_package("transformers", PURPOSE, "videomae", "diffusability-eval")
        self.snapshot()
