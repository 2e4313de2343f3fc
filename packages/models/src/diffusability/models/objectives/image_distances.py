"""Distances between images as pure functions, each a mean over all pixels, computed in float32."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import TrainingError
from diffusability.core.numerics.dct import dct2, to_blocks
from diffusability.core.numerics.randomness import sent
from diffusability.core.shapes import Images, Scalar


def absolute_error(images: Images, reconstruction: Images) -> Scalar:
    """``mean |x - y|``."""
    return (images.float() - reconstruction.float()).abs().mean()


def squared_error(images: Images, reconstruction: Images) -> Scalar:
    """``mean (x - y)^2``."""
    return (images.float() - reconstruction.float()).square().mean()


def charbonnier(images: Images, reconstruction: Images, epsilon: float) -> Scalar:
    """``mean sqrt((x - y)^2 + epsilon^2)`` (Charbonnier et al., ICIP 1994): |x - y| with a round tip."""
    difference = images.float() - reconstruction.float()
    return (difference.square() + epsilon**2).sqrt().mean()


def pseudo_huber(images: Images, reconstruction: Images, delta: float) -> Scalar:
    """``mean delta^2 (sqrt(1 + ((x - y) / delta)^2) - 1)``: half the square near 0, ``delta |x - y|`` far from it."""
    difference = images.float() - reconstruction.float()
    root = (1 + (difference / delta).square()).sqrt()
    return (difference.square() / (root + 1)).mean()  # the same without the cancellation of sqrt(1 + small) - 1


def frequency_weights(block_size: int, exponent: float) -> Float[Tensor, "n n"]:
    """``(1 + u + v)^exponent`` over the frequencies of a block, scaled to a mean of 1."""
    frequency = torch.arange(block_size, dtype=torch.float64)
    weights = (1 + frequency[:, None] + frequency[None, :]) ** exponent
    return (weights / weights.mean()).float()


def dct_distance(images: Images, reconstruction: Images, block_size: int, exponent: float) -> Scalar:
    """``mean w_uv |X_uv - Y_uv|`` over the orthonormal DCT-II coefficients of all blocks; w: ``frequency_weights``.

    A positive exponent presses on high frequencies, a negative one on low frequencies. (Squares would be the squared
    error of the pixels again, by Parseval's theorem.)

    Raises:
        TrainingError: a side of the images is not a multiple of the block size.
    """
    difference = images.float() - reconstruction.float()
    height, width = difference.shape[-2:]
    if height % block_size or width % block_size:
        raise TrainingError(f"the DCT loss cuts images into blocks of {block_size} pixels; got {height}x{width}")
    with torch.autocast(difference.device.type, enabled=False):
        coefficients = dct2(to_blocks(difference, block_size))
        return (sent(frequency_weights(block_size, exponent), difference.device) * coefficients.abs()).mean()
