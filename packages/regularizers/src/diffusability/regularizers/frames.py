"""Clips as stacks of images."""

from jaxtyping import Float
from torch import Tensor

from diffusability.core.shapes import Images


def as_images(maps: Images) -> Float[Tensor, "n c h w"]:
    """Images as they are, clips as all their frames: ``b c t h w`` to ``(b t) c h w``."""
    return maps.transpose(1, 2).flatten(0, 1) if maps.ndim == 5 else maps
