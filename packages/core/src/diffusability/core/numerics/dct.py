"""Blockwise discrete cosine transforms, and the zigzag order in which JPEG counts frequencies.

The transform is the orthonormal DCT-II: ``Y = D X D^T`` for a block X, with D the DCT matrix; its inverse is
``X = D^T Y D``. Everything works on the last two axes of a tensor.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a cached inference tensor could not be used in later gradients
def _dct_matrix(size: int) -> Float[Tensor, "n n"]:
    frequency = torch.arange(size, dtype=torch.float64, device="cpu")[:, None]
    position = torch.arange(size, dtype=torch.float64, device="cpu")[None, :]
    matrix = torch.cos(math.pi * frequency * (2 * position + 1) / (2 * size)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def dct_matrix(size: int, like: Tensor | None = None) -> Float[Tensor, "n n"]:
    """The orthonormal DCT-II matrix, frequency by position, in ``like``'s dtype and device (default float32)."""
    matrix = _dct_matrix(size)
    return matrix.float() if like is None else matrix.to(like)


def to_blocks(images: Float[Tensor, "... h w"], size: int) -> Float[Tensor, "... rows columns n n"]:
    """Splits the last two axes into blocks of ``size`` by ``size``.

    Raises:
        ValueError: a side is not a multiple of ``size``.
    """
    height, width = images.shape[-2:]
    if height % size or width % size:
        raise ValueError(f"a {height}x{width} map cannot be cut into {size}x{size} blocks")
    cut = images.reshape(*images.shape[:-2], height // size, size, width // size, size)
    return cut.transpose(-3, -2)


def from_blocks(blocks: Float[Tensor, "... rows columns n n"]) -> Float[Tensor, "... h w"]:
    """The inverse of ``to_blocks``."""
    return blocks.transpose(-3, -2).flatten(-4, -3).flatten(-2, -1)


def dct2(blocks: Float[Tensor, "... n m"]) -> Float[Tensor, "... n m"]:
    """Orthonormal DCT-II of the last two axes."""
    rows, columns = (dct_matrix(side, blocks) for side in blocks.shape[-2:])
    return rows @ blocks @ columns.T


def idct2(coefficients: Float[Tensor, "... n m"]) -> Float[Tensor, "... n m"]:
    """The inverse of ``dct2``."""
    rows, columns = (dct_matrix(side, coefficients) for side in coefficients.shape[-2:])
    return rows.T @ coefficients @ columns


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def zigzag_order(size: int) -> Int[Tensor, " n2"]:
    """Flat indices ``u * size + v`` of a block's coefficients in JPEG's zigzag order, from DC on.

    The first step goes right, to (0, 1), as in JPEG (ITU-T T.81, figure A.6).
    """
    cells = [(u, v) for u in range(size) for v in range(size)]
    # Anti-diagonals u + v; odd ones run downwards, even ones upwards.
    cells.sort(key=lambda cell: (cell[0] + cell[1], cell[0] if (cell[0] + cell[1]) % 2 else cell[1]))
    return torch.tensor([u * size + v for u, v in cells], device="cpu")


def chop_mask(size: int, ratio: float, shape: str = "zigzag") -> Bool[Tensor, "n n"]:
    """Which coefficients of a block are kept when the share ``ratio`` of high frequencies is chopped off.

    ``zigzag`` keeps the first ``int((1 - ratio) size^2)`` in zigzag order, ``square`` those in the low-frequency
    square of side ``int((1 - ratio) size)``.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"a chop ratio must be in [0, 1], got {ratio!r}")
    mask = torch.zeros(size * size, dtype=torch.bool)
    # The tiny offset undoes float noise such as (1 - 0.9) * 10 = 0.9999999999999998.
    if shape == "zigzag":
        mask[zigzag_order(size)[: int((1 - ratio) * size * size + 1e-9)]] = True
    elif shape == "square":
        side = int((1 - ratio) * size + 1e-9)
        mask.view(size, size)[:side, :side] = True
    else:
        raise ValueError(f"unknown shape {shape!r}; expected 'zigzag' or 'square'")
    return mask.view(size, size)


def chop(
    images: Float[Tensor, "... h w"], ratio: float, block_size: int = 8, shape: str = "zigzag"
) -> Float[Tensor, "... h w"]:
    """Removes the share ``ratio`` of high DCT frequencies from every block: an orthogonal projection.

    Raises:
        ValueError: a side is not a multiple of the block size, or the ratio is outside [0, 1].
    """
    mask = chop_mask(block_size, ratio, shape).to(images)
    return from_blocks(idct2(dct2(to_blocks(images, block_size)) * mask))
