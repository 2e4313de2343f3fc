"""What a regularizer does with the decoder in training: decode other latents, and compare with other images."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.errors import TrainingError
from diffusability.core.shapes import Images, Latents, Scalar

#: Images of latents.
Decode = Callable[[Latents], Images]
#: A distance between images, and a decoder's images of them.
Distance = Callable[[Images, Images], Scalar]


def trained_autoencoder(objective: Objective, label: str) -> Autoencoder:
    """The autoencoder in training.

    Raises:
        TrainingError: the objective trains none.
    """
    autoencoder = objective.autoencoder
    if autoencoder is None:
        raise TrainingError(
            f"regularizer {label!r} needs an objective that trains an autoencoder; {type(objective).__name__} has none"
        )
    return autoencoder


def images_and_latents(output: StepOutput) -> tuple[Images, Float[Tensor, "b d *s i j"]]:
    """Both, of a step whose objective provides them."""
    assert output.images is not None, "the objective provides images"
    assert output.latents is not None, "the objective provides latents"
    return output.images, output.latents


def distance_of(objective: Objective, perceptual: bool) -> Distance:
    """The objective's own reconstruction loss, with or without its perceptual part."""

    def distance(images: Images, reconstruction: Float[Tensor, "..."]) -> Scalar:
        return objective.reconstruction_loss(images, reconstruction, perceptual=perceptual)

    return distance


def decoding_loss(
    images: Images, latents: Float[Tensor, "b d *s i j"], decode: Decode, distance: Distance, what: str
) -> Scalar:
    """``d(x', D(z'))`` for changed images and latents.

    Raises:
        TrainingError: the decoder does not return images of the size of ``images``; says ``what`` the latents are.
    """
    decoded = decode(latents)
    if decoded.shape != images.shape:
        raise TrainingError(
            f"the decoder maps latents of shape {tuple(latents.shape)!r}, {what}, to shape {tuple(decoded.shape)!r};"
            f" expected the shape {tuple(images.shape)!r} of the {what} images"
        )
    return distance(images, decoded)
