"""Clips as stacks of images."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.numerics.axes import per_sample
from diffusability.core.shapes import Latents


def at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Half-precision values in float32, others as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def without_autocast(values: Tensor) -> torch.autocast:
    """A context in which matrix products of these values keep their precision."""
    return torch.autocast(values.device.type, enabled=False)


@torch.no_grad()
def sample_deviation(latents: Latents) -> Float[Tensor, "b ..."]:
    """Standard deviation over all dimensions of each sample, at least 1e-6, ready to be multiplied with them."""
    deviation = latents.flatten(1).std(1, correction=0).clamp_min(1e-6)
    return per_sample(deviation, latents)


def pool_time(clips: Float[Tensor, "b c t h w"], factor: int) -> Float[Tensor, "b c s h w"]:
    """Keeps the first frame and averages each ``factor`` of the others: 1 + n frames become 1 + n / factor.

    The first frame stays alone because causal video autoencoders encode it alone; so the pooled latents still decode to
    as many frames as the pooled clip has.

    Raises:
        ValueError: the factor does not divide the number of frames after the first.
    """
    count = clips.shape[2]
    if (count - 1) % factor:
        raise ValueError(f"a clip of {count} frames cannot be shortened by {factor}: expected 1 + n * {factor} frames")
    if count == 1:
        return clips
    batch, channels, _, height, width = clips.shape
    others = clips[:, :, 1:].reshape(batch, channels, -1, factor, height, width).mean(3)
    return torch.cat([clips[:, :, :1], others], dim=2)
