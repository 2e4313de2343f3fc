"""Clips as images."""

from jaxtyping import Float
from torch import Tensor

from diffusability.core.shapes import Images


def as_frames(images: Images) -> Float[Tensor, "n c h w"]:
    """The frames of all clips in order, ``b c t h w`` to ``(b t) c h w``; images as they are."""
    return images.transpose(1, 2).flatten(0, 1) if images.ndim == 5 else images


def mean_of_frames(values: Float[Tensor, " n"], num_samples: int) -> Float[Tensor, " b"]:
    """The mean of each clip of the values of its frames, in the order of ``as_frames``, in float64."""
    return values.double().reshape(num_samples, -1).mean(1)
