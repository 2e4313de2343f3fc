"""Sinusoids of positions and times, fixed: added to tokens, or as angles that rotate queries and keys."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoids(
    positions: Float[Tensor, " n"], size: int, longest_wavelength: float = 10_000.0, last_exponent: float | None = None
) -> tuple[Float[Tensor, "n half"], Float[Tensor, "n half"]]:
    """Sines and cosines of ``position * longest_wavelength^(-k / half)`` for k in [0, half), ``half = size // 2``.

    With a ``last_exponent``, ``k / half`` is stretched so that the last one is that.
    Source: Vaswani et al. (2017), section 3.5.
    """
    half = size // 2
    exponents = torch.arange(half, dtype=positions.dtype, device=positions.device) / half
    if last_exponent is not None:
        exponents = exponents * (last_exponent * half / (half - 1))
    angles = positions[:, None] * torch.exp(-math.log(longest_wavelength) * exponents)
    return angles.sin(), angles.cos()


def _coordinates(grid: Sequence[int]) -> list[Float[Tensor, " n"]]:
    """Each cell's place along each axis of a grid, the last axis running fastest."""
    places = [torch.arange(length, dtype=torch.float64) for length in grid]
    return [axis.flatten() for axis in torch.meshgrid(*places, indexing="ij")]


def grid_positions(grid: Sequence[int], size: int) -> Float[Tensor, "n d"]:
    """Embeddings of the cells of a grid ``(rows, columns)`` or ``(frames, rows, columns)``, the last axis fastest.

    Half of ``size`` is for the column, half for the row, in this order, as in the original DiT. With frames, the first
    quarter is for the frame, and the rest is divided equally. Each part holds the sines, then the cosines of one
    coordinate, counted in cells from 0.

    Raises:
        ValueError: the size cannot be shared evenly.
    """
    *frames, row, column = _coordinates(grid)
    share = 16 if frames else 4
    if size % share:
        raise ValueError(f"a {len(grid)}-D sinusoidal embedding has a size divisible by {share}, got {size!r}")
    temporal = size // 4 if frames else 0
    spatial = (size - temporal) // 2
    parts = [part for frame in frames for part in sinusoids(frame, temporal)]
    parts += [*sinusoids(column, spatial), *sinusoids(row, spatial)]
    return torch.cat(parts, dim=1).float()


def rotary_pairs(num_axes: int, head_size: int) -> tuple[int, ...]:
    """How many of a head's ``head_size // 2`` pairs rotate with each axis: halves, or about 1/4, 3/8, 3/8 for clips.

    Raises:
        ValueError: the head size is odd, or too small for every axis to have a pair.
    """
    pairs = head_size // 2
    shared = pairs // 2 if num_axes == 2 else 3 * pairs // 8
    if head_size % 2 or shared < 1:
        raise ValueError(f"rotary positions need an even head size of at least {2 * num_axes}, got {head_size!r}")
    return (pairs - shared, shared) if num_axes == 2 else (pairs - 2 * shared, shared, shared)


def rotary_table(
    grid: Sequence[int], head_size: int, longest_wavelength: float = 10_000.0
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Cosines and sines of the angles by which the pairs ``(i, i + head_size / 2)`` of a cell's queries are rotated.

    Each axis of the grid has pairs of its own, with angles ``place * longest_wavelength^(-k / pairs)``. Source: Su et
    al. (2021), equation 34, by axis.
    """
    pairs = rotary_pairs(len(grid), head_size)
    parts = [
        sinusoids(place, 2 * count, longest_wavelength) for place, count in zip(_coordinates(grid), pairs, strict=True)
    ]
    sines = torch.cat([sine for sine, _ in parts], dim=1)
    cosines = torch.cat([cosine for _, cosine in parts], dim=1)
    return cosines.repeat(1, 2).float(), sines.repeat(1, 2).float()


def rotate(
    heads: Float[Tensor, "*b n d"], cosines: Float[Tensor, "n d"], sines: Float[Tensor, "n d"]
) -> Float[Tensor, "*b n d"]:
    """Rotates the pairs ``(i, i + d / 2)`` of each token's vector by its angles; real arithmetic in float32."""
    first, second = heads.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (heads * cosines + turned * sines).to(heads.dtype)


def time_frequencies(
    time: Float[Tensor, " b"], size: int, scale: float = 1000.0, last_exponent: float | None = None
) -> Float[Tensor, "b d"]:
    """Embeddings of times in [0, 1], which are multiplied by ``scale``: the cosines, then the sines; in float32."""
    sines, cosines = sinusoids(time.float() * scale, size, last_exponent=last_exponent)
    return torch.cat([cosines, sines], dim=1)
