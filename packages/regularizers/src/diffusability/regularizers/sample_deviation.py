"""How much latents vary, sample by sample, so that it depends neither on the micro batch nor on the ranks."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.shapes import Latents


@torch.no_grad()
def sample_deviation(latents: Latents) -> Float[Tensor, "b ..."]:
    """Standard deviation over all dimensions of each sample, at least 1e-6, ready to be multiplied with them."""
    deviation = latents.flatten(1).std(1, correction=0).clamp_min(1e-6)
    return deviation.view(-1, *[1] * (latents.ndim - 1))
