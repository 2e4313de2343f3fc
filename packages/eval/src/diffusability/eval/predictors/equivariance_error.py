"""Whether encoding and a geometric transformation can be exchanged.

Kouzelis et al. 2025 (EQ-VAE, arXiv 2502.09509) and "Improving the Diffusability of Autoencoders" (ICML 2025): the
distance of ``Enc(T x)`` to ``T Enc(x)``. Everything here works on the last two axes of images or clips.
"""

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

from diffusability.core.resampling import downsample

Transformed = tuple[Float[Tensor, "..."], Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]]


def transformations(factor: int) -> Mapping[str, Callable[[Tensor], Transformed]]:
    """For each transformation by name: images to transformed images, and what does the same to their latents.

    ``scale`` halves the sides (bilinear), ``rotation`` turns by 90 degrees, ``flip`` mirrors left and right, ``shift``
    moves by one latent pixel (``factor`` image pixels) to the right, around the border.
    """
    return {
        "scale": lambda images: (downsample(images, 2), lambda latents: downsample(latents, 2)),
        "rotation": lambda images: (images.rot90(1, (-2, -1)), lambda latents: latents.rot90(1, (-2, -1))),
        "flip": lambda images: (images.flip(-1), lambda latents: latents.flip(-1)),
        "shift": lambda images: (images.roll(factor, -1), lambda latents: latents.roll(1, -1)),
    }


def squared_error(encoded: Float[Tensor, "n c *s"], expected: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c"]:
    """Mean squared difference of each sample and channel, in float64."""
    return (encoded.double() - expected.double()).square().flatten(2).mean(2)
