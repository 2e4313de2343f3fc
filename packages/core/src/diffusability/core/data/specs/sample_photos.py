"""The spec of the photographs that packages ship. Free of torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from diffusability.core.extras import require_extra
from diffusability.core.specs.components import DatasetSpec, Split

if TYPE_CHECKING:
    pass


class SamplePhotosSpec(DatasetSpec):
    """Random crops at many scales of the colour photographs that scikit-image and scikit-learn ship."""

    kind: Literal["sample-photos"] = "sample-photos"
    builds: ClassVar[str] = "diffusability.core.data.sample_photos:SamplePhotos"
    resolution: PositiveInt = Field(64, description="height and width in pixels", le=256)
    flip: bool = Field(True, description="mirror half of the training crops")
    size: PositiveInt = Field(8192, description="crops that count as one epoch of training")
    validation_size: PositiveInt = Field(1024, description="fixed crops of the validation regions")

    def check_inputs(self) -> None:
        require_extra("photographs", f"data of kind {self.kind!r}")

    def image_shape(self) -> tuple[int, ...]:
        return (3, self.resolution, self.resolution)

    def unlabelled(self) -> str | None:
        return f"no labels (kind {self.kind!r})"

    def num_examples(self, split: Split) -> int:
        return self.size if split == "train" else self.validation_size
