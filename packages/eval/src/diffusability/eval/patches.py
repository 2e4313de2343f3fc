"""Patches of images at random places."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffusability.core.seeds import derived_seed


def patch_corners(seed: int, image: int, count: int, height: int, width: int) -> Int[Tensor, "p 2"]:
    """``count`` corners (row, column) in [0, height) x [0, width), for the image of that number in a set.

    They depend on nothing else, so that the images of two sets that have the same number are cut at the same places.
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, "patches", image, height, width))
    rows = torch.randint(height, (count,), generator=generator)
    columns = torch.randint(width, (count,), generator=generator)
    return torch.stack([rows, columns], dim=1)


def cut_patches(image: Float[Tensor, "c h w"], corners: Int[Tensor, "p 2"], size: int) -> Float[Tensor, "p c n"]:
    """The square patches with these upper left corners, flattened, ``n = size^2``."""
    offset = torch.arange(size, device=corners.device)
    rows = corners[:, 0, None, None] + offset[:, None]
    columns = corners[:, 1, None, None] + offset[None, :]
    return image[:, rows, columns].transpose(0, 1).flatten(2)


def standardize_channels(patches: Float[Tensor, "n c d"]) -> Float[Tensor, "n f"]:
    """Patches with each channel at zero mean and unit variance over the whole set, as vectors, in float64.

    A constant channel becomes zero.
    """
    values = patches.double()
    centred = values - values.mean((0, 2), keepdim=True)
    std = centred.square().mean((0, 2), keepdim=True).sqrt()
    return (centred / torch.where(std > 0, std, torch.ones_like(std))).flatten(1)
