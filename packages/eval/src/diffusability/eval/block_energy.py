"""Mean squares of block DCT coefficients of latents, of images or clips."""

from jaxtyping import Float
from torch import Tensor

from diffusability.core.dct import dct2, to_blocks, zigzag_order
from diffusability.core.shapes import Latents
from diffusability.eval.blocks import crop_to_blocks
from diffusability.eval.frames import as_frames


def coefficients(latents: Latents, block_size: int) -> Float[Tensor, "n c blocks k"]:
    """Block DCT coefficients of every frame, cropped to whole blocks, in zigzag order and float64."""
    blocks = dct2(to_blocks(crop_to_blocks(as_frames(latents).double(), block_size), block_size))
    return blocks.flatten(2, 3).flatten(-2)[..., zigzag_order(block_size).to(latents.device)]
