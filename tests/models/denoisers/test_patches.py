import pytest
import torch

from diffusability.models.denoisers.patches import from_patches, to_patches


@pytest.mark.parametrize(("shape", "patch"), [((4, 4, 6), (2, 2)), ((3, 6, 4), (1, 1)), ((2, 4, 4, 6), (2, 2, 2))])
def test_patches_come_back_as_they_were(shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
    """An exact round trip."""
    latents = torch.arange(2.0 * torch.Size(shape).numel()).view(2, *shape)
    grid = [length // size for length, size in zip(shape[1:], patch, strict=True)]
    assert torch.equal(from_patches(to_patches(latents, patch), grid, patch), latents)


def test_patches_of_images_equal_unfold() -> None:
    """Order of patches and of the values in them, against ``torch.nn.functional.unfold``."""
    latents = torch.randn(2, 3, 6, 4)
    expected = torch.nn.functional.unfold(latents, 2, stride=2).mT
    torch.testing.assert_close(to_patches(latents, (2, 2)), expected, rtol=0, atol=0)


def test_patches_of_clips_equal_a_3d_convolution() -> None:
    """A linear map of patches against ``conv3d`` with the same weights."""
    latents, weight = torch.randn(2, 3, 4, 6, 4), torch.randn(5, 3, 2, 2, 2)
    expected = torch.nn.functional.conv3d(latents, weight, stride=2).flatten(2).mT
    torch.testing.assert_close(to_patches(latents, (2, 2, 2)) @ weight.flatten(1).T, expected, rtol=1e-4, atol=1e-4)
