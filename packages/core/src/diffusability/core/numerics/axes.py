"""Values shaped to multiply images, latents and clips, and the frames of clips as images."""

from jaxtyping import Float, Shaped
from torch import Tensor


def per_sample(values: Shaped[Tensor, " b"], like: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "b ..."]:
    """A value for each sample of ``like``, of shape ``(b, 1, ..., 1)`` with as many dimensions."""
    return values.view(-1, *[1] * (like.ndim - 1))


def per_channel(values: Shaped[Tensor, " c"], like: Shaped[Tensor, "b c2 ..."]) -> Shaped[Tensor, "1 c ..."]:
    """A value for each channel, of shape ``(1, c, 1, ..., 1)`` with as many dimensions as ``like``."""
    return values.view(1, -1, *[1] * (like.ndim - 2))


def as_frames(images: Float[Tensor, "b c *t h w"]) -> Float[Tensor, "n c h w"]:
    """The frames of all clips in order, ``b c t h w`` to ``(b t) c h w``; images as they are."""
    return images.transpose(1, 2).flatten(0, 1) if images.ndim == 5 else images


def as_clips(frames: Float[Tensor, "n c h w"], num_clips: int) -> Float[Tensor, "{num_clips} c t h w"]:
    """The inverse of ``as_frames``: clips of equally many frames each."""
    return frames.reshape(num_clips, -1, *frames.shape[1:]).transpose(1, 2)
