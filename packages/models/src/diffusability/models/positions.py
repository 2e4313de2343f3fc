"""Fixed sinusoidal embeddings of positions and times."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoids(
    positions: Float[Tensor, " n"], size: int, longest_wavelength: float = 10_000.0
) -> tuple[Float[Tensor, "n half"], Float[Tensor, "n half"]]:
    """Sines and cosines of ``position * longest_wavelength^(-k / half)`` for k in [0, half), ``half = size // 2``.

    Source: Vaswani et al. (2017), section 3.5.
    """
    half = size // 2
    exponents = torch.arange(half, dtype=positions.dtype, device=positions.device) / half
    angles = positions[:, None] * torch.exp(-math.log(longest_wavelength) * exponents)
    return angles.sin(), angles.cos()


def grid_positions(rows: int, columns: int, size: int) -> Float[Tensor, "n d"]:
    """Embeddings of the cells of a grid, row after row: half of ``size`` for the row, half for the column.

    Each half holds the sines, then the cosines of one coordinate, counted in cells from 0.

    Raises:
        ValueError: the size is not a multiple of 4.
    """
    if size % 4:
        raise ValueError(f"a 2-D sinusoidal embedding has a size divisible by 4, got {size!r}")
    row = torch.arange(rows, dtype=torch.float64).repeat_interleave(columns)
    column = torch.arange(columns, dtype=torch.float64).repeat(rows)
    return torch.cat([*sinusoids(row, size // 2), *sinusoids(column, size // 2)], dim=1).float()


def time_frequencies(time: Float[Tensor, " b"], size: int, scale: float = 1000.0) -> Float[Tensor, "b d"]:
    """Embeddings of times in [0, 1], which are multiplied by ``scale``: the cosines, then the sines; in float32."""
    sines, cosines = sinusoids(time.float() * scale, size)
    return torch.cat([cosines, sines], dim=1)
