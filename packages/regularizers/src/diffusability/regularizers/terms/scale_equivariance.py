"""Scale equivariance: the decoder must map downsampled latents to the downsampled image."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.numerics.resampling import Resampling, resize
from diffusability.core.shapes import Images, Scalar
from diffusability.regularizers.decoding import (
    Decode,
    Distance,
    decoding_loss,
    distance_of,
    images_and_latents,
    trained_autoencoder,
)
from diffusability.regularizers.latents import pool_time
from diffusability.regularizers.specs.factors import small_size
from diffusability.regularizers.specs.scale_equivariance import ScaleEquivarianceSpec


def shrunk(
    maps: Images, size: tuple[int, int], temporal_factor: int = 1, resampling: Resampling = "mean"
) -> Float[Tensor, "b c *s small_h small_w"]:
    """Resamples height and width to ``size`` and, of clips, pools all frames after the first."""
    small = resize(maps, size, resampling)
    return pool_time(small, temporal_factor) if temporal_factor > 1 else small


def image_size(images: Images, latents: Float[Tensor, "b d *s i j"], size: tuple[int, int]) -> tuple[int, int]:
    """The size of images whose latents have a given size, at the ratio of these images and latents."""
    return (size[0] * images.shape[-2] // latents.shape[-2], size[1] * images.shape[-1] // latents.shape[-1])


def scale_equivariance_loss(
    images: Images,
    latents: Float[Tensor, "b d *s i j"],
    decode: Decode,
    distance: Distance,
    *,
    factor: float | tuple[float, float],
    temporal_factor: int = 1,
    resampling: Resampling = "mean",
) -> Scalar:
    """``d(down(x), D(down(z)))`` for one factor ("Improving the Diffusability of Autoencoders", ICML 2025).

    Latents are resampled to whole pixels, images to the size that those decode to: by the mean, as in the authors'
    code, unless told otherwise; ``bilinear`` aliases at factors above 2. Clips are also shortened by
    ``temporal_factor``, all but their first frame. Gradients flow to the decoder and through ``latents`` to the
    encoder: nothing is detached.

    Raises:
        ValueError: the factor does not fit the latents.
        TrainingError: the decoder does not return images of the downsampled size.
    """
    size = small_size((latents.shape[-2], latents.shape[-1]), factor)
    small_images = shrunk(images, image_size(images, latents, size), temporal_factor, resampling)
    small_latents = shrunk(latents, size, temporal_factor, resampling)
    return decoding_loss(small_images, small_latents, decode, distance, "downsampled")


class ScaleEquivariance(Regularizer):
    """The scale equivariance loss with the objective's own decoder and reconstruction loss."""

    def __init__(self, spec: ScaleEquivarianceSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The loss at one factor, drawn for the step and equal on all ranks, or its mean over all factors.

        Raises:
            TrainingError: the objective has no autoencoder, or its decoder returns images of a wrong size.
        """
        images, latents = images_and_latents(output)
        autoencoder = trained_autoencoder(objective, self.spec.label)
        choices = self.spec.choices(clips=latents.ndim == 5)
        if self.spec.each_step == "one":
            choices = [choices[output.batch.randomness.choice("scale-equivariance", len(choices))]]
        losses = [
            scale_equivariance_loss(
                images,
                latents,
                autoencoder.decode,
                distance_of(objective, self.spec.perceptual),
                factor=factor,
                temporal_factor=temporal_factor,
                resampling=self.spec.resampling,
            )
            for factor, temporal_factor in choices
        ]
        return torch.stack(losses).mean()
