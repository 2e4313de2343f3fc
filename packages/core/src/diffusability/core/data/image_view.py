"""The square of pixels that an image of any shape becomes, and the filters for its size."""

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from diffusability.core.contracts.dataset import FilteredExample
from diffusability.core.data.image_files import crop_box, cropped, mirrored
from diffusability.core.data.specs.image_view import ImageViewSpec


def refuse_by_size(size: tuple[int, int], min_size: int | None, max_aspect: float | None, name: str) -> None:
    """Raises FilteredExample for an image of size (width, height) that the filters leave out."""
    shorter, longer = min(size), max(size)
    if min_size is not None and shorter < min_size:
        raise FilteredExample(f"{name}: {size[0]}x{size[1]} pixels, and min_size is {min_size}")
    if max_aspect is not None and longer > max_aspect * shorter:
        raise FilteredExample(f"{name}: {size[0]}x{size[1]} pixels, and max_aspect is {max_aspect}")


def image_view(
    image: Image.Image, spec: ImageViewSpec, generator: torch.Generator | None, name: str
) -> Float[Tensor, "3 h w"]:
    """A square of the shorter side, resized; random as the spec says with a generator, else the centre.

    Raises:
        FilteredExample: the spec leaves images of this size out.
    """
    refuse_by_size(image.size, spec.min_size, spec.max_aspect, name)
    box = crop_box(image.size, 1.0, generator if spec.crop == "random" else None)
    data = cropped(image, box, spec.resolution)
    return mirrored(data, generator) if generator is not None and spec.flip else data
