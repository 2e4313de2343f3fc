"""Which blocks fit into a map."""

from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError

SMALLEST_BLOCK = 4


def fitting_block_size(height: int, width: int, block_size: int) -> int:
    """``block_size`` where a map holds such a block, else the largest power of two that it does.

    Raises:
        DataError: not even a block of 4 by 4 fits: too few frequencies to speak of a spectrum.
    """
    side = min(height, width)
    if side < SMALLEST_BLOCK:
        raise DataError(
            f"latents of {height}x{width} are too small for block DCTs; expected at least"
            f" {SMALLEST_BLOCK}x{SMALLEST_BLOCK}: evaluate at a higher image resolution"
        )
    return block_size if side >= block_size else 1 << (side.bit_length() - 1)


def crop_to_blocks(maps: Float[Tensor, "... h w"], block_size: int) -> Float[Tensor, "... h2 w2"]:
    """Drops the rows below and the columns to the right of the last whole block."""
    height, width = (side - side % block_size for side in maps.shape[-2:])
    return maps[..., :height, :width]
