"""Where the energy of whole maps lies among the frequencies of their DCT."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def spectral_energy_concentration(energy: Float[Tensor, "h w"], rho: float) -> float:
    """SEC: share of the energy of whole-map DCTs at ``u + v > rho (H + W - 2)``, DC included in the whole.

    "Diffusing in the Right Space" (arXiv 2606.03578), equations 7 to 9. ``energy`` holds the mean squared coefficients.
    """
    height, width = energy.shape
    return (energy[is_high(height, width, rho).to(energy.device)].sum() / energy.sum()).item()


def is_high(height: int, width: int, rho: float) -> Bool[Tensor, "h w"]:
    """Which frequencies of a whole-map DCT count as high: ``u + v > rho (H + W - 2)``."""
    frequency = torch.arange(height)[:, None] + torch.arange(width)
    return frequency > rho * (height + width - 2)


def radial_profile(amplitude: Float[Tensor, "c h w"]) -> tuple[list[float], Float[Tensor, "c k"]]:
    """Mean amplitude by radial frequency, and those frequencies in cycles per pixel, from DC up.

    The radius of ``(u, v)`` is ``sqrt((u / 2H)^2 + (v / 2W)^2)``: 0.5 is the Nyquist frequency of an axis. Bins have
    the width of one frequency step of the longer side; the corner beyond 0.5 is kept.
    """
    _, height, width = amplitude.shape
    vertical = torch.arange(height, dtype=torch.float64)[:, None] / (2 * height)
    horizontal = torch.arange(width, dtype=torch.float64) / (2 * width)
    step = 1 / (2 * max(height, width))
    index = ((vertical.square() + horizontal.square()).sqrt() / step).round().long().flatten()
    present = torch.bincount(index).nonzero().flatten()
    sums = torch.zeros(len(amplitude), int(index.max()) + 1, dtype=torch.float64)
    sums.index_add_(1, index, amplitude.double().cpu().flatten(1))
    counts = torch.bincount(index, minlength=sums.shape[1])
    return (present * step).tolist(), (sums / counts.clamp_min(1))[:, present]


def spectral_slope(frequencies: list[float], amplitude: Float[Tensor, " k"]) -> float:
    """Exponent ``a`` of the least-squares fit of ``amplitude ~ frequency^a``, DC and the corner beyond 0.5 left out.

    Natural photographs have about -1 (Field 1987), white noise 0: latents nearer 0 carry more high frequencies.
    """
    chosen = [place for place, frequency in enumerate(frequencies) if 0 < frequency <= 0.5]
    x = torch.tensor([frequencies[place] for place in chosen], dtype=torch.float64).log()
    y = amplitude.double().cpu()[chosen].clamp_min(1e-300).log()
    centred = x - x.mean()
    return ((centred @ (y - y.mean())) / centred.square().sum()).item()
