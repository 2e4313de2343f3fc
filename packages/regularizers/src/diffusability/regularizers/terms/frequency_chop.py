"""Reconstruction with the high frequencies of latents and images chopped off alike."""

from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.numerics.dct import chop
from diffusability.core.shapes import Images, Scalar
from diffusability.regularizers.decoding import (
    Decode,
    Distance,
    decoding_loss,
    distance_of,
    images_and_latents,
    trained_autoencoder,
)
from diffusability.regularizers.latents import at_least_float32, without_autocast
from diffusability.regularizers.specs.frequency_chop import FrequencyChopSpec


def frequency_chop_loss(
    images: Images,
    latents: Float[Tensor, "b d *s i j"],
    decode: Decode,
    distance: Distance,
    *,
    ratio: float,
    block_size: int = 8,
    shape: str = "zigzag",
) -> Scalar:
    """``d(chop(x, r), D(chop(z, r)))``: the same share r of each block's coefficients is removed from both.

    From the alternatives to scale equivariance in "Improving the Diffusability of Autoencoders" (ICML 2025). Blocks of
    latents have ``block_size`` pixels a side; those of images as many more as the decoder enlarges. Frames of clips are
    chopped one by one.
    """
    scale = images.shape[-1] // latents.shape[-1]
    with without_autocast(latents):
        low_latents = chop(at_least_float32(latents), ratio, block_size, shape)
        low_images = chop(images, ratio, block_size * scale, shape)
    return decoding_loss(low_images, low_latents, decode, distance, "chopped")


class FrequencyChop(Regularizer):
    """The chop loss at a ratio that is drawn for each step, equal on all ranks."""

    def __init__(self, spec: FrequencyChopSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The loss, at least 0."""
        images, latents = images_and_latents(output)
        return frequency_chop_loss(
            images,
            latents,
            trained_autoencoder(objective, self.spec.label).decode,
            distance_of(objective, self.spec.perceptual),
            ratio=self.spec.max_ratio * output.batch.randomness.fraction("frequency-chop"),
            block_size=self.spec.block_size,
            shape=self.spec.shape,
        )
