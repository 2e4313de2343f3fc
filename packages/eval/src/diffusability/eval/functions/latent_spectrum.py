"""The block DCT spectrum of latents, beside that of images."""

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import Curve, EvalResult, EvaluationBatch
from diffusability.core.numerics.axes import as_frames
from diffusability.core.shapes import Latents
from diffusability.eval.specs.spectra import DCTSpectrumSpec
from diffusability.eval.spectra.block_spectrum import BlockSpectrum, fitting_block_size
from diffusability.eval.spectra.dct_spectrum import DCTSpectrum, spectrum_curve
from diffusability.eval.spectra.spectrum import high_frequency_share, log_amplitude_ratio


@attrs.frozen(kw_only=True, eq=False)
class LatentSpectrum:
    """A spectrum in block DCTs.

    Attributes:
        latents: log amplitude relative to DC against the zigzag index, mean and standard deviation over channels.
        high_frequency_share: share of the AC energy at ``u + v >= block_size``, channels scaled to unit variance.
        block_size: side of a block that was used.
        images: the same curve of the images, average-pooled to the latents' size; None where none were given.
        images_high_frequency_share: the same share of those.
        spectral_gap: mean over frequencies of the latents' log amplitude minus the images', in nats; 0 is RGB-like.
    """

    latents: Curve
    high_frequency_share: float
    block_size: int
    images: Curve | None = None
    images_high_frequency_share: float | None = None
    spectral_gap: float | None = None


@torch.no_grad()
def latent_spectrum(
    latents: Latents, images: Float[Tensor, "b rgb *frames rows columns"] | None = None, *, block_size: int = 8
) -> LatentSpectrum:
    """The spectrum of raw latents, and of the images that they encode; the numbers of the evaluator ``dct-spectrum``.

    Args:
        latents: raw latents of images or clips, as many as possible.
        images: the images that they are of, in [-1, 1]; only with them there is a gap.
        block_size: side of a block; latents too small for it take the largest power of two that fits.

    Raises:
        DataError: latents are smaller than 4x4, or the images' sides are no whole multiple of theirs.
        NotFiniteError: a number is NaN or infinite.
    """
    if images is None:
        frames = as_frames(latents)
        size = fitting_block_size(frames.shape[-2], frames.shape[-1], block_size)
        spectrum = BlockSpectrum("latents", size)
        spectrum.update(frames)
        return LatentSpectrum(
            latents=spectrum_curve(log_amplitude_ratio(spectrum.amplitude())),
            high_frequency_share=high_frequency_share(spectrum.energy(), spectrum.variance()),
            block_size=size,
        )
    evaluator = DCTSpectrum(DCTSpectrumSpec(block_size=block_size))
    evaluator.update(EvaluationBatch(indices=range(len(latents)), images=images, latents=latents))
    results: dict[str, EvalResult] = {result.metric: result for result in evaluator.compute()}
    curve, share = results["latent_spectrum_curve"].curve, results["high_frequency_share"].value
    assert curve is not None
    assert share is not None
    return LatentSpectrum(
        latents=curve,
        high_frequency_share=share,
        block_size=results["high_frequency_share"].spec["block_size"],
        images=results["rgb_pooled_spectrum_curve"].curve,
        images_high_frequency_share=results["rgb_high_frequency_share"].value,
        spectral_gap=results["spectral_gap"].value,
    )
