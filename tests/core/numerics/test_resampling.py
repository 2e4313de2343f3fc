import numpy as np
import pytest
import skimage.measure
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusability.core.numerics.resampling import Resampling, downsample

METHODS = ("bilinear", "mean", "antialias")


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_mean_is_a_block_average(factor: int) -> None:
    """Mean pooling against scikit-image's block_reduce."""
    images = noise(2, 3, 24, 12)
    expected = skimage.measure.block_reduce(images.numpy(), (1, 1, factor, factor), np.mean)
    np.testing.assert_allclose(downsample(images, factor, "mean").numpy(), expected, atol=1e-12)


def test_bilinear_takes_the_four_pixels_around_the_new_centre() -> None:
    """At factor 4, the average of the middle 2x2 of each 4x4, by slicing."""
    images = noise(2, 3, 16, 8)
    middle = (images[..., 1::4, 1::4] + images[..., 1::4, 2::4] + images[..., 2::4, 1::4] + images[..., 2::4, 2::4]) / 4
    torch.testing.assert_close(downsample(images, 4, "bilinear"), middle)


def test_bilinear_and_mean_agree_at_factor_2() -> None:
    """The two methods against each other."""
    images = noise(2, 3, 16, 8)
    torch.testing.assert_close(downsample(images, 2, "bilinear"), downsample(images, 2, "mean"))


def test_antialias_is_a_triangle_filter() -> None:
    """An inner output pixel at factor 2 against the sum with the triangle's weights 1, 3, 3, 1 over 8 on both axes."""
    images = noise(1, 1, 16, 16)
    weights = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    expected = torch.einsum("r,c,rc->", weights, weights, images[0, 0, 5:9, 7:11])
    torch.testing.assert_close(downsample(images, 2, "antialias")[0, 0, 3, 4], expected)


@given(factor=st.sampled_from([1, 2, 3, 4]), method=st.sampled_from(METHODS), value=st.floats(-1, 1))
def test_constants_stay(factor: int, method: Resampling, value: float) -> None:
    """A flat image keeps its value under every method, and loses only size."""
    small = downsample(torch.full((1, 2, 12, 24), value, dtype=torch.float64), factor, method)
    torch.testing.assert_close(small, torch.full((1, 2, 12 // factor, 24 // factor), value, dtype=torch.float64))


@pytest.mark.parametrize("method", METHODS)
def test_clips_are_downsampled_frame_by_frame(method: Resampling) -> None:
    """A clip against its frames one at a time; time keeps its length."""
    clips = noise(2, 3, 5, 8, 12)
    small = downsample(clips, 2, method)
    assert small.shape == (2, 3, 5, 4, 6)
    for frame in range(5):
        torch.testing.assert_close(small[:, :, frame], downsample(clips[:, :, frame], 2, method))


@pytest.mark.parametrize("method", METHODS)
def test_gradients(method: Resampling) -> None:
    """Autograd against finite differences."""
    images = noise(1, 1, 4, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: downsample(x, 2, method), (images,))


@pytest.mark.parametrize("factor", [0, -2, 3, 16])
def test_a_factor_that_does_not_divide_is_refused(factor: int) -> None:
    """Also one that would leave no pixel, and one that is not a factor."""
    with pytest.raises(ValueError, match=f"8x8 map cannot be downsampled by {factor}"):
        downsample(torch.zeros(1, 1, 8, 8), factor)


def test_an_unknown_method_is_refused() -> None:
    """The message names the known ones. (A wrong literal is caught by the type check where that is on.)"""
    unchecked = downsample.__wrapped__ if hasattr(downsample, "__wrapped__") else downsample
    with pytest.raises(ValueError, match="unknown resampling 'cubic'"):
        unchecked(torch.zeros(1, 1, 8, 8), 2, "cubic")
