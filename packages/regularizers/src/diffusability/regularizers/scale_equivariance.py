"""Scale equivariance: the decoder must map downsampled latents to the downsampled image."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import TrainingError
from diffusability.core.objective import StepOutput
from diffusability.core.regularizer import Regularizer
from diffusability.core.resampling import Resampling, downsample
from diffusability.core.shapes import Images, Latents, Scalar
from diffusability.regularizers.specs import ScaleEquivarianceSpec
from diffusability.regularizers.time_pooling import pool_time


def shrink(
    maps: Images, factor: int, resampling: Resampling = "bilinear", shorten_time: bool = True
) -> Float[Tensor, "b c *s small_h small_w"]:
    """Downsamples height and width by ``factor`` and, if ``shorten_time``, clips in time too."""
    small = downsample(maps, factor, resampling)
    return pool_time(small, factor) if shorten_time and maps.ndim == 5 else small


def scale_equivariance_loss(
    images: Images,
    latents: Float[Tensor, "b d *s i j"],
    decode: Callable[[Latents], Images],
    distance: Callable[[Images, Images], Scalar],
    *,
    factor: int,
    resampling: Resampling = "bilinear",
    shorten_time: bool = True,
) -> Scalar:
    """``d(down(x), D(down(z)))`` for one factor ("Improving the Diffusability of Autoencoders", ICML 2025).

    Gradients flow to the decoder and through ``latents`` to the encoder: nothing is detached.

    Raises:
        ValueError: the factor does not divide the sides of the images or of the latents.
        TrainingError: the decoder does not return images of the downsampled size.
    """
    small_images = shrink(images, factor, resampling, shorten_time)
    small_latents = shrink(latents, factor, resampling, shorten_time)
    decoded = decode(small_latents)
    if decoded.shape != small_images.shape:
        raise TrainingError(
            f"the decoder maps latents of shape {tuple(small_latents.shape)!r}, downsampled by {factor}, to shape"
            f" {tuple(decoded.shape)!r}; expected the shape {tuple(small_images.shape)!r} of the downsampled images"
        )
    return distance(small_images, decoded)


class ScaleEquivariance(Regularizer):
    """The scale equivariance loss with the objective's own decoder and reconstruction loss."""

    needs = ScaleEquivarianceSpec.needs

    def __init__(self, spec: ScaleEquivarianceSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, task: TrainTask) -> Scalar:
        """The loss at one factor, drawn for the step and equal on all ranks, or its mean over all factors.

        Raises:
            TrainingError: the objective has no autoencoder, or its decoder returns images of a wrong size.
        """
        assert output.images is not None, "the objective provides images"
        assert output.latents is not None, "the objective provides latents"
        autoencoder = task.objective.autoencoder
        if autoencoder is None:
            raise TrainingError(
                "regularizer 'scale-equivariance' needs an objective that trains an autoencoder;"
                f" {type(task.objective).__name__} has none"
            )
        factors = self.spec.factors
        if self.spec.each_step == "one":
            factors = (factors[output.batch.randomness.choice("scale-equivariance", len(factors))],)
        losses = [
            scale_equivariance_loss(
                output.images,
                output.latents,
                autoencoder.decode,
                task.objective.reconstruction_loss,
                factor=factor,
                resampling=self.spec.resampling,
                shorten_time=self.spec.shorten_time,
            )
            for factor in factors
        ]
        return torch.stack(losses).mean()
