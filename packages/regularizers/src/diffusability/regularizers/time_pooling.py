"""Shortening of clips."""

import torch
from jaxtyping import Float
from torch import Tensor


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
