import pytest
import torch

from diffusability.core.errors import DataError
from diffusability.eval.spectra.block_spectrum import crop_to_blocks, fitting_block_size


@pytest.mark.parametrize(
    ("height", "width", "wanted", "expected"),
    [(32, 32, 8, 8), (8, 12, 8, 8), (7, 32, 8, 4), (4, 4, 8, 4), (5, 6, 8, 4), (12, 12, 16, 8), (6, 6, 6, 6)],
)
def test_a_block_that_does_not_fit_becomes_the_largest_power_of_two(
    height: int, width: int, wanted: int, expected: int
) -> None:
    """Sides of blocks worked out by hand."""
    assert fitting_block_size(height, width, wanted) == expected


def test_maps_below_four_pixels_are_an_error() -> None:
    """The message names the sides and the smallest ones."""
    with pytest.raises(DataError, match="latents of 3x8 are too small for block DCTs; expected at least 4x4"):
        fitting_block_size(3, 8, 8)


def test_cropping_keeps_the_whole_blocks() -> None:
    """Sides and content against slicing."""
    maps = torch.arange(2 * 19 * 8).view(2, 19, 8).float()
    assert torch.equal(crop_to_blocks(maps, 8), maps[:, :16, :8])
