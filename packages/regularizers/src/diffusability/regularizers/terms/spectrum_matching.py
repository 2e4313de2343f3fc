"""Latents whose power falls over frequency as that of images does (encoding spectrum matching)."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.numerics.axes import as_frames
from diffusability.core.numerics.dct import dct2
from diffusability.core.numerics.randomness import sent
from diffusability.core.numerics.resampling import resize
from diffusability.core.shapes import Images, Scalar
from diffusability.core.specs.build_context import BuildContext
from diffusability.regularizers.decoding import images_and_latents
from diffusability.regularizers.latents import at_least_float32, without_autocast
from diffusability.regularizers.specs.spectrum_matching import SpectrumMatchingSpec
from diffusability.regularizers.terms.spectral_masking import SpectralMasking

_EPS = 1e-8


def radial_bins(size: tuple[int, int], num_bins: int) -> Int[Tensor, "h w"]:
    """The bin of each DCT coefficient by its radius ``sqrt(u^2 + v^2)``; the corner is in the last one."""
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in size)
    radius = (rows[:, None] ** 2 + columns[None, :] ** 2).sqrt()
    largest = math.hypot(size[0] - 1, size[1] - 1)
    return (radius / largest * num_bins).floor().long().clamp(max=num_bins - 1)


def radial_power(maps: Float[Tensor, "n c h w"], num_bins: int) -> Float[Tensor, "n bins"]:
    """Mean power of the DCT coefficients of a whole map, over channels and over each radial bin; DC counts as 0."""
    centred = maps - maps.mean((-2, -1), keepdim=True)
    power = dct2(centred).square().mean(1).flatten(1)
    bins = sent(radial_bins((maps.shape[-2], maps.shape[-1]), num_bins).flatten(), maps.device)
    counts = torch.bincount(bins, minlength=num_bins).clamp_min(1).to(power)
    return power.new_zeros(len(power), num_bins).index_add(1, bins, power) / counts


def log_shares(power: Float[Tensor, "n bins"]) -> Float[Tensor, "n bins"]:
    """``log(1 + power)``, divided by its sum: how much of the spectrum lies in each bin."""
    logs = (power + _EPS).log1p()
    return logs / (logs.sum(1, keepdim=True) + _EPS)


def spectrum_matching_loss(
    images: Images, latents: Float[Tensor, "b d *s i j"], *, num_bins: int = 16, flattening: float = 1.0
) -> Scalar:
    """``KL(p_x || p_z)`` of radial log power spectra, the image's being flattened by ``f^flattening``.

    Encoding spectrum matching of Ning et al. 2026, "Spectrum Matching", arXiv 2603.14645, with details (the whole map's
    DCT, log(1 + power), bins numbered from 1) from the authors' code. Images are downsampled to the latents' size with
    antialiasing; frames of clips are taken one by one, each latent frame with the image frame that ends it.
    """
    with without_autocast(latents):
        latents = at_least_float32(latents)
        small = resize(_frames_of_latents(images, latents), (latents.shape[-2], latents.shape[-1]), "antialias")
        of_images = radial_power(as_frames(small), num_bins)
        number = torch.arange(1, num_bins + 1, dtype=of_images.dtype, device=of_images.device)
        shares = log_shares(of_images * number**flattening)
        of_latents = log_shares(radial_power(as_frames(latents), num_bins))
        return (shares * ((shares + _EPS).log() - (of_latents + _EPS).log())).sum(1).mean()


def _frames_of_latents(images: Images, latents: Float[Tensor, "b d *s i j"]) -> Float[Tensor, "b c *s h w"]:
    """Of a clip, the frame that each latent frame ends with: all, or every so many after the first."""
    if images.ndim == 4 or images.shape[2] == latents.shape[2]:
        return images
    stride = (images.shape[2] - 1) // (latents.shape[2] - 1) if latents.shape[2] > 1 else 1
    return images[:, :, :: max(1, stride)][:, :, : latents.shape[2]]


class SpectrumMatching(Regularizer):
    """The loss on the latents that are decoded."""

    def __init__(self, spec: SpectrumMatchingSpec) -> None:
        super().__init__()
        self.spec = spec

    @classmethod
    def from_spec(cls, spec: SpectrumMatchingSpec, context: BuildContext) -> Regularizer:  # type: ignore[override]
        """This loss, or for ``match: decoding`` the one of masked latents."""
        return cls(spec) if spec.match == "encoding" else SpectralMasking(spec)

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The divergence, at least 0 up to rounding; ``objective`` is not used."""
        images, latents = images_and_latents(output)
        return spectrum_matching_loss(images, latents, num_bins=self.spec.num_bins, flattening=self.spec.flattening)
