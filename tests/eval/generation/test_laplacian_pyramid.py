from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from diffusability.eval.generation.laplacian_pyramid import laplacian_pyramid, pyramid_down, pyramid_up

Noise = Callable[..., Tensor]
TAPS = np.array([1, 4, 6, 4, 1]) / 16


def test_down_is_scipys_filter(noise: Noise) -> None:
    """The 5x5 binomial filter of scipy.ndimage, mirrored at the borders, and every other pixel."""
    images = noise(2, 3, 16, 24).double()
    expected = scipy.ndimage.convolve(images.numpy(), np.outer(TAPS, TAPS)[None, None], mode="mirror")[:, :, ::2, ::2]
    np.testing.assert_allclose(pyramid_down(images).numpy(), expected, atol=1e-12)


def test_up_is_scipys_filter(noise: Noise) -> None:
    """Zeros between the pixels and four times the filter; a flat image stays flat."""
    images = noise(2, 3, 8, 12).double()
    spread = np.zeros((2, 3, 16, 24))
    spread[:, :, ::2, ::2] = images.numpy()
    expected = scipy.ndimage.convolve(spread, 4 * np.outer(TAPS, TAPS)[None, None], mode="mirror")
    np.testing.assert_allclose(pyramid_up(images).numpy(), expected, atol=1e-12)
    torch.testing.assert_close(pyramid_up(torch.full((1, 1, 8, 8), 0.3)), torch.full((1, 1, 16, 16), 0.3))


def test_the_levels_add_up_to_the_image(noise: Noise) -> None:
    """Rebuilding from the smallest level against the input."""
    images = noise(2, 3, 64, 64).double()
    levels = laplacian_pyramid(images)
    rebuilt = levels[-1]
    for level in reversed(levels[:-1]):
        rebuilt = level + pyramid_up(rebuilt)
    torch.testing.assert_close(rebuilt, images)


@pytest.mark.parametrize(
    ("height", "width", "sides"),
    [(64, 64, [64, 32, 16]), (16, 16, [16]), (48, 64, [48, 24]), (34, 34, [34, 17]), (33, 64, [33])],
)
def test_sides_are_halved_down_to_16(height: int, width: int, sides: list[int], noise: Noise) -> None:
    """Shorter sides of the levels by hand, also of sizes that are not powers of two."""
    assert [min(level.shape[-2:]) for level in laplacian_pyramid(noise(1, 3, height, width))] == sides


def test_a_flat_image_is_all_in_the_smallest_level() -> None:
    """The band-pass levels of a constant against 0."""
    *bands, rest = laplacian_pyramid(torch.full((1, 3, 64, 64), 0.5, dtype=torch.float64))
    assert all(band.abs().max() < 1e-12 for band in bands)
    torch.testing.assert_close(rest, torch.full_like(rest, 0.5))
