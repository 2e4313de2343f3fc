"""Diffusion times that training draws, one for each sample, on the CPU."""

import torch

from diffusability.core.randomness import BatchRandomness
from diffusability.core.shapes import Times


def logit_normal_times(randomness: BatchRandomness, mean: float = 0.0, std: float = 1.0) -> Times:
    """Times in (0, 1) whose logit is normal (Esser et al. 2024, section 3.1)."""
    return torch.sigmoid(mean + std * randomness.normal("time", ()))


def uniform_times(randomness: BatchRandomness) -> Times:
    """Times uniform in [0, 1)."""
    return randomness.uniform("time")


def shifted_times(times: Times, shift: float) -> Times:
    """``s t / (1 + (s - 1) t)``: towards noise for s > 1, as large latents want it (Esser et al. 2024, equation 23)."""
    return shift * times / (1 + (shift - 1) * times)
