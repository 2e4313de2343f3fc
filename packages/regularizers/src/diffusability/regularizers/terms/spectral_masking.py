"""A decoder that keeps frequencies apart: masked alike in latents and images (decoding spectrum matching)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.numerics.dct import dct2, idct2
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
from diffusability.regularizers.specs.spectrum_matching import SpectrumMatchingSpec


def low_pass(maps: Images, size: tuple[int, int], cutoff: float) -> Float[Tensor, "b c *t h w"]:
    """Keeps the DCT coefficients of the whole map within ``cutoff`` of the largest radius of a map of ``size``.

    Coefficient (u, v) is the same number of waves across maps of any size, so that latents and images at one ``size``,
    that of the latents, keep the same frequencies. A cutoff of 1 keeps all of the latents' frequencies.
    """
    height, width = maps.shape[-2:]
    rows = torch.arange(height, dtype=torch.float64, device=maps.device)
    columns = torch.arange(width, dtype=torch.float64, device=maps.device)
    radius = (rows[:, None] ** 2 + columns[None, :] ** 2).sqrt()
    kept = radius <= cutoff * math.hypot(size[0] - 1, size[1] - 1) + 1e-9
    kept = kept & (rows[:, None] < size[0]) & (columns[None, :] < size[1])
    return idct2(dct2(maps) * kept.to(maps))


def spectral_masking_loss(
    images: Images, latents: Float[Tensor, "b d *s i j"], decode: Decode, distance: Distance, *, cutoff: float
) -> Scalar:
    """``d(M x, D(M z))`` with a mask M that keeps the same low frequencies of both.

    Decoding spectrum matching of Ning et al. 2026, arXiv 2603.14645 ("shared spectral masking with frequency-aligned
    reconstruction"). The paper's text was not at hand when this was written: that M is a low-pass of the whole map, at
    a uniformly drawn radius, is our reading. ``frequency-chop`` is the same idea in blocks.
    """
    size = (latents.shape[-2], latents.shape[-1])
    with without_autocast(latents):
        low_latents = low_pass(at_least_float32(latents), size, cutoff)
        low_images = low_pass(images, size, cutoff)
    return decoding_loss(low_images, low_latents, decode, distance, "masked")


class SpectralMasking(Regularizer):
    """The loss at a cutoff that is drawn for each step, equal on all ranks."""

    def __init__(self, spec: SpectrumMatchingSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The loss, at least 0."""
        images, latents = images_and_latents(output)
        drawn = output.batch.randomness.fraction("spectrum-matching")
        cutoff = self.spec.min_cutoff + (1 - self.spec.min_cutoff) * drawn
        decode = trained_autoencoder(objective, self.spec.label).decode
        return spectral_masking_loss(
            images, latents, decode, distance_of(objective, self.spec.perceptual), cutoff=cutoff
        )
