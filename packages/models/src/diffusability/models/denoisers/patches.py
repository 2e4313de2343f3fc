"""Cuts latents of images and clips into patches, and puts them together again."""

from collections.abc import Sequence
from math import prod

from jaxtyping import Float
from torch import Tensor


def to_patches(latents: Float[Tensor, "b c *t h w"], patch: Sequence[int]) -> Float[Tensor, "b n values"]:
    """Patches in the order of the grid, the last axis fastest; values in the order channel, frame, row, column."""
    batch, channels, *lengths = latents.shape
    split: list[int] = []
    for length, size in zip(lengths, patch, strict=True):
        split += [length // size, size]
    axes = range(len(patch))
    order = (0, *(2 + 2 * axis for axis in axes), 1, *(3 + 2 * axis for axis in axes))
    cut = latents.reshape(batch, channels, *split).permute(order)
    return cut.reshape(batch, prod(split[::2]), channels * prod(patch))


def from_patches(
    patches: Float[Tensor, "b n values"], grid: Sequence[int], patch: Sequence[int]
) -> Float[Tensor, "b c *t h w"]:
    """The inverse of ``to_patches``, for patches on a ``grid``."""
    batch, _, values = patches.shape
    axes = range(len(patch))
    split = patches.reshape(batch, *grid, values // prod(patch), *patch)
    order = (0, 1 + len(patch), *(place for axis in axes for place in (1 + axis, 2 + len(patch) + axis)))
    lengths = [count * size for count, size in zip(grid, patch, strict=True)]
    return split.permute(order).reshape(batch, -1, *lengths)
