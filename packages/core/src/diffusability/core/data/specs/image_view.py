"""What the datasets of image files have in common: how a file becomes a square of pixels. Free of torch."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from diffusability.core.specs.base import Incidental
from diffusability.core.specs.components import DatasetSpec


class ImageViewSpec(DatasetSpec):
    """Squares cut from images of any shape, and which images are left out for their size."""

    resolution: PositiveInt = Field(256, description="height and width in pixels")
    crop: Literal["random", "center"] = Field(
        "random", description="training crops; the shorter side is first resized to `resolution`"
    )
    flip: bool = Field(True, description="mirror half of the training images")
    min_size: PositiveInt | None = Field(None, description="leave out images whose shorter side has fewer pixels")
    max_aspect: PositiveFloat | None = Field(
        None, ge=1, description="leave out images whose longer side is more than this many times the shorter one"
    )
    max_unreadable_share: float = Field(
        0.1, ge=0, le=1, description="training stops when a larger share of the examples cannot be read"
    )
    num_workers: Annotated[int, Incidental()] = Field(2, ge=0, description="loading processes per rank")

    def image_shape(self) -> tuple[int, ...]:
        return (3, self.resolution, self.resolution)
