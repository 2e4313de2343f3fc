"""What a YAML file says of I3D features. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.published_weights import PublishedWeights
from diffusability.core.specs.components import FeaturesSpec

if TYPE_CHECKING:
    pass

WEIGHTS = PublishedWeights(
    purpose="feature extractor 'i3d'", url="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt", size_mib=49
)

#: The network halves the number of frames so often that fewer leave nothing.
FEWEST_FRAMES = 10


class I3DSpec(FeaturesSpec):
    """I3D of Kinetics-400, by which FVD is defined, as a TorchScript file; for clips of 10 frames or more."""

    kind: Literal["i3d"] = "i3d"
    builds: ClassVar[str] = "diffusability.eval.features.i3d:I3D"
    takes: ClassVar[Literal["images", "clips"]] = "clips"

    weights: Path | None = Field(None, description="the TorchScript file; default: torch.hub's cache")

    def frechet_name(self) -> str:
        return "fvd"

    def num_features(self) -> int:
        return 400

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        super().check_images(image_shape)
        if image_shape[1] < FEWEST_FRAMES:
            raise ValueError(f"features 'i3d' take clips of at least {FEWEST_FRAMES} frames, got {image_shape[1]}")

    def check_inputs(self) -> None:
        WEIGHTS.locate(self.weights)
