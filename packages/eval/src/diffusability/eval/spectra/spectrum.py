"""Spectra in block DCTs, as numbers and curves, from sums over blocks.

Sections 3 and 4 of "Improving the Diffusability of Autoencoders" (ICML 2025) define the curve; the coefficients of a
block are indexed by ``u`` (vertical) and ``v`` (horizontal frequency), from 0 for DC.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.numerics.dct import zigzag_order

#: Amplitudes below this share of a channel's largest one are rounding noise, and are raised to it before the logarithm.
AMPLITUDE_FLOOR = 1e-12


def log_amplitude_ratio(amplitude: Float[Tensor, "c n n"]) -> Float[Tensor, "c k"]:
    """Natural logarithm of each frequency's mean amplitude over that of DC, in zigzag order; 0 at DC.

    ``amplitude`` holds the mean over samples and blocks of the coefficients' absolute values: a ratio of means, not a
    mean of ratios.
    """
    floor = AMPLITUDE_FLOOR * amplitude.amax((1, 2), keepdim=True)
    log = torch.maximum(amplitude, floor).log().flatten(1)
    order = zigzag_order(amplitude.shape[-1]).to(amplitude.device)
    return log[:, order] - log[:, :1]


def high_frequency_share(energy: Float[Tensor, "c n n"], variance: Float[Tensor, " c"]) -> float:
    """Share of the AC energy at ``u + v >= n``, in [0, 1], with the channels scaled to unit variance.

    ``energy`` holds sums of squared coefficients. White noise gives the share of AC coefficients that are there: 28/63
    for n = 8. Without any AC energy the share is 0.
    """
    size = energy.shape[-1]
    frequency = torch.arange(size, device=energy.device)
    is_high = frequency[:, None] + frequency[None, :] >= size
    scaled = energy / variance[:, None, None]
    total = scaled.sum() - scaled[:, 0, 0].sum()
    return (scaled[:, is_high].sum() / total).item() if total > 0 else 0.0


def spectral_gap(latents: Float[Tensor, "c k"], rgb: Float[Tensor, "d k"]) -> float:
    """Mean over the frequencies after DC of the latents' log amplitude ratio minus that of RGB, in nats.

    0 is a spectrum like that of RGB; more is one inflated at high frequencies.
    """
    return (latents.mean(0) - rgb.mean(0))[1:].mean().item()
