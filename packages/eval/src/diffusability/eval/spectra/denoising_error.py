"""The error of a denoiser by frequency and time, as pure functions.

Everything is in the orthonormal block DCT, in which white noise stays white. On the path ``z_t = (1 - t) z + t eps``,
data that were Gaussian with variance S at a frequency would leave the best denoiser the error ``S t^2 / ((1 - t)^2 S +
t^2)`` (Wiener), so that a frequency is half resolved where its signal-to-noise ratio ``S (1 - t)^2 / t^2`` is 1: the
higher the frequency and the steeper the spectrum, the later (Dieleman 2024, "Diffusion is spectral autoregression").
"""

import torch
from jaxtyping import Float
from torch import Tensor


def relative_error(error: Float[Tensor, "t c k"], energy: Float[Tensor, "c k"]) -> Float[Tensor, "t c k"]:
    """Mean squared error of the estimated data over the data's mean square; 0 is known, 1 is nothing known.

    Frequencies without energy get 0.
    """
    return torch.where(energy > 0, error / energy.clamp_min(torch.finfo(energy.dtype).tiny), 0.0)


def wiener_error(energy: Float[Tensor, "c k"], times: Float[Tensor, " t"]) -> Float[Tensor, "t c k"]:
    """Relative error of the best denoiser of Gaussian data with this mean square: ``t^2 / ((1 - t)^2 S + t^2)``."""
    noise = times.square().view(-1, 1, 1)
    return noise / ((1 - times).square().view(-1, 1, 1) * energy + noise)


def half_resolved_time(
    relative: Float[Tensor, "t c k"], times: Float[Tensor, " t"], level: float = 0.5
) -> Float[Tensor, "c k"]:
    """The latest time, going from data to noise, until which the relative error stays below ``level``.

    Linear between times; 0 for a frequency that is not resolved even at the first time, 1 for one that is at the last.
    """
    above = relative >= level
    first = above.to(torch.int64).argmax(0)
    low, high = (first - 1).clamp_min(0), first
    before = relative.gather(0, low[None])[0]
    after = relative.gather(0, high[None])[0]
    share = (level - before) / (after - before).clamp_min(1e-12)
    crossing = times[low] + share * (times[high] - times[low])
    crossing = torch.where(above[0], torch.zeros_like(crossing), crossing)
    return torch.where(above.any(0), crossing, torch.ones_like(crossing))
