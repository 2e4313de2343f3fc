"""Equivariance of the autoencoder to scaling, rotation and reflection (EQ-VAE)."""

import attrs
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.numerics.resampling import resize
from diffusability.core.shapes import Images, Scalar
from diffusability.regularizers.decoding import (
    Decode,
    Distance,
    decoding_loss,
    distance_of,
    images_and_latents,
    trained_autoencoder,
)
from diffusability.regularizers.specs.equivariance import EquivarianceSpec
from diffusability.regularizers.terms.scale_equivariance import image_size


@attrs.frozen(kw_only=True)
class Transform:
    """A scaling, then a rotation, then a reflection of maps.

    Attributes:
        size: height and width of the latents after scaling.
        quarter_turns: counter-clockwise, 0 to 3.
        mirrored: whether left and right are exchanged at the end.
    """

    size: tuple[int, int]
    quarter_turns: int = 0
    mirrored: bool = False

    def turned(self, maps: Images) -> Float[Tensor, "b c *t new_h new_w"]:
        """Rotated and reflected maps, of the same size or with its sides exchanged."""
        turned = maps.rot90(self.quarter_turns, (-2, -1))
        return turned.flip(-1) if self.mirrored else turned


def equivariance_loss(
    images: Images,
    latents: Float[Tensor, "b d *s i j"],
    decode: Decode,
    distance: Distance,
    transform: Transform,
) -> Scalar:
    """``d(t(x), D(t(E(x))))`` for a transform t (Kouzelis et al. 2025, "EQ-VAE", arXiv 2502.09509).

    The term that EQ-VAE puts in the place of the reconstruction loss in half of its steps; resampling is bilinear. The
    frames of clips are all transformed alike.
    """
    small_images = transform.turned(resize(images, image_size(images, latents, transform.size)))
    small_latents = transform.turned(resize(latents, transform.size))
    return decoding_loss(small_images, small_latents, decode, distance, "transformed")


def drawn(spec: EquivarianceSpec, size: tuple[int, int], randomness: BatchRandomness) -> Transform:
    """The transform of a step, equal on all ranks: uniform over sizes, turns and, in half of the steps, a mirror."""
    heights, widths = (spec.sizes(side) for side in size)
    height = heights[randomness.choice("equivariance height", len(heights))]
    if spec.anisotropic:
        width = widths[randomness.choice("equivariance width", len(widths))]
    else:
        width = max(1, round(height * size[1] / size[0]))
    return Transform(
        size=(height, width),
        quarter_turns=1 + randomness.choice("equivariance turns", 3) if spec.rotations else 0,
        mirrored=spec.flips and randomness.choice("equivariance mirror", 2) == 1,
    )


class Equivariance(Regularizer):
    """The loss in a share of the steps; in a share of the others, reconstruction of small images, to keep that too.

    The probabilities are those of the authors' code: 1/2, and 1/4 of the rest. Where that code replaces the
    reconstruction loss in those steps, here the term is added to it. Its transforms are scales and rotations;
    reflections are an option of ours, off by default.
    """

    def __init__(self, spec: EquivarianceSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The loss of the step, 0 in steps without a transform."""
        images, latents = images_and_latents(output)
        autoencoder = trained_autoencoder(objective, self.spec.label)
        randomness = output.batch.randomness
        transform = drawn(self.spec, (latents.shape[-2], latents.shape[-1]), randomness)
        distance = distance_of(objective, self.spec.perceptual)
        if randomness.fraction("equivariance") < self.spec.probability:
            return equivariance_loss(images, latents, autoencoder.decode, distance, transform)
        if randomness.fraction("equivariance small images") < self.spec.small_image_probability:
            small = resize(images, image_size(images, latents, transform.size))
            posterior = autoencoder.encode(small)
            noise = randomness.normal("equivariance small images", posterior.mean.shape[1:], images.device)
            return decoding_loss(small, posterior.sample(noise), autoencoder.decode, distance, "encoded small")
        return latents.new_zeros(())
