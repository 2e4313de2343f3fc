from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import skimage.filters
import torch
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.generation.sliced_wasserstein import (
    cut_patches,
    patch_corners,
    random_directions,
    standardize_channels,
)
from diffusability.eval.specs.generation import SlicedWassersteinSpec

Evaluate = Callable[..., dict[str, EvalResult]]
Photographs = Callable[[int, int], Tensor]
Noise = Callable[..., Tensor]


def spec_of(**fields: Any) -> SlicedWassersteinSpec:
    return SlicedWassersteinSpec(**{"num_samples": 16, "num_projections": 64, "patches_per_image": 32, **fields})


def blurred(images: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(
        np.stack([skimage.filters.gaussian(image.numpy(), sigma, channel_axis=0) for image in images])
    ).float()


def numbers(results: dict[str, EvalResult]) -> dict[str, float]:
    return {name: result.value for name, result in results.items()}


def test_patches_are_slices_of_the_image(noise: Noise) -> None:
    """Each patch against the slice at its corner."""
    image = noise(3, 16, 20)
    corners = patch_corners(0, 5, 40, 16 - 7 + 1, 20 - 7 + 1)
    assert int(corners[:, 0].max()) <= 9
    assert int(corners[:, 1].max()) <= 13
    patches = cut_patches(image, corners, 7)
    for patch, (row, column) in zip(patches, corners.tolist(), strict=True):
        assert torch.equal(patch.view(3, 7, 7), image[:, row : row + 7, column : column + 7])


def test_corners_reach_every_place_and_depend_on_the_image() -> None:
    """Many corners against all places; another image or seed, other corners."""
    corners = patch_corners(0, 0, 2000, 4, 5)
    assert {tuple(corner) for corner in corners.tolist()} == {(u, v) for u in range(4) for v in range(5)}
    assert torch.equal(corners, patch_corners(0, 0, 2000, 4, 5))
    assert not torch.equal(corners, patch_corners(0, 1, 2000, 4, 5))
    assert not torch.equal(corners, patch_corners(1, 0, 2000, 4, 5))


def test_standardized_channels_have_no_mean_and_unit_variance(noise: Noise) -> None:
    """Moments of each channel over the set; a constant channel is 0."""
    patches = noise(50, 3, 49) * torch.tensor([1.0, 5.0, 0.0]).view(3, 1) + 2
    channels = standardize_channels(patches).view(50, 3, 49)
    torch.testing.assert_close(channels.mean((0, 2)), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    variance = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(channels.square().mean((0, 2)), variance)


def test_equal_sets_have_no_distance(photographs: Photographs, evaluate: Evaluate) -> None:
    """A set against itself: exactly 0 on every level."""
    images = photographs(6, 64)
    results = evaluate(spec_of(), images=images, generated=images)
    assert set(results) == {"sliced_wasserstein", *(f"sliced_wasserstein_{side}" for side in (64, 32, 16))}
    assert set(numbers(results).values()) == {0.0}


def test_more_blur_is_further_away(photographs: Photographs, evaluate: Evaluate) -> None:
    """Gaussian blur of scikit-image: the distance rises with sigma, and most of it is in the finest level."""
    images = photographs(12, 64)
    distances = []
    for sigma in (0.3, 0.6, 1.0, 2.0):
        results = numbers(evaluate(spec_of(), images=images, generated=blurred(images, sigma)))
        distances.append(results["sliced_wasserstein"])
        assert results["sliced_wasserstein_64"] > results["sliced_wasserstein_16"]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_noise_is_further_away_than_other_crops_of_photographs(
    photographs: Photographs, noise: Noise, evaluate: Evaluate
) -> None:
    """Two halves of one set of photographs against photographs and white noise."""
    images = photographs(16, 32)
    near = evaluate(spec_of(), images=images[:8], generated=images[8:])["sliced_wasserstein"].value
    far = evaluate(spec_of(), images=images[:8], generated=noise(8, 3, 32, 32))["sliced_wasserstein"].value
    assert 0 < 1.5 * near < far


def test_the_distance_is_that_of_a_scipy_loop(photographs: Photographs, evaluate: Evaluate) -> None:
    """Images of 16 pixels, which have one level: patches cut and standardised by numpy, scipy's distance along each
    direction, in thousandths."""
    images, generated = photographs(4, 16), blurred(photographs(4, 16), 1.0)

    def descriptors(stack: Tensor) -> np.ndarray:
        patches = np.array(
            [
                image[:, row : row + 7, column : column + 7].numpy()
                for index, image in enumerate(stack)
                for row, column in patch_corners(0, index, 32, 10, 10).tolist()
            ],
            dtype=np.float64,
        )
        patches = (patches - patches.mean((0, 2, 3), keepdims=True)) / patches.std((0, 2, 3), keepdims=True)
        return patches.reshape(len(patches), -1)

    real, other = descriptors(images), descriptors(generated)
    distances = [
        scipy.stats.wasserstein_distance(real @ direction, other @ direction)
        for direction in random_directions(0, 64, 147).T.numpy()
    ]
    results = numbers(evaluate(spec_of(), images=images, generated=generated))
    assert set(results) == {"sliced_wasserstein", "sliced_wasserstein_16"}
    assert results["sliced_wasserstein"] == pytest.approx(1000 * np.mean(distances), rel=1e-5)


def test_the_mean_is_over_levels(photographs: Photographs, evaluate: Evaluate) -> None:
    """The headline number against the mean of the levels'."""
    images = photographs(4, 32)
    results = numbers(evaluate(spec_of(), images=images, generated=images.flip(0) * 0.5))
    levels = [results["sliced_wasserstein_32"], results["sliced_wasserstein_16"]]
    assert results["sliced_wasserstein"] == pytest.approx(np.mean(levels), rel=1e-12)


def test_the_seed_fixes_everything(photographs: Photographs, evaluate: Evaluate) -> None:
    """Twice the same seed gives the same numbers, whatever the global generator; another seed gives others."""
    images = photographs(8, 32)
    results = []
    for seed in (0, 0, 1):
        torch.rand(7)
        results.append(numbers(evaluate(spec_of(seed=seed), images=images[:4], generated=images[4:])))
    assert results[0] == results[1]
    assert results[0] != results[2]
    assert results[2]["sliced_wasserstein"] == pytest.approx(results[0]["sliced_wasserstein"], rel=0.5)


def test_batches_and_autocast_do_not_matter(photographs: Photographs, evaluate: Evaluate) -> None:
    """Uneven batches, and bfloat16 autocast, against one batch."""
    images = photographs(10, 32)
    pair = {"images": images[:5], "generated": images[5:]}
    whole = numbers(evaluate(spec_of(), **pair))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert numbers(evaluate(spec_of(), **pair)) == whole
    for sizes in ([1, 4], [2, 2, 1]):
        assert numbers(evaluate(spec_of(), sizes, **pair)) == whole


def test_images_past_the_number_of_samples_are_not_used(photographs: Photographs, evaluate: Evaluate) -> None:
    """Eight images where four were asked for, against the first four."""
    images = photographs(16, 32)
    spec = spec_of(num_samples=4)
    results = evaluate(spec, [3, 5], images=images[:8], generated=images[8:])
    assert numbers(results) == numbers(evaluate(spec, images=images[:4], generated=images[8:12]))
    assert results["sliced_wasserstein"].num_samples == 4


def test_of_clips_one_frame_is_compared(photographs: Photographs, evaluate: Evaluate) -> None:
    """Still clips against their image; equal clips are at no distance."""
    images = photographs(8, 32)
    clips = images[:, :, None].expand(-1, -1, 3, -1, -1)
    of_clips = evaluate(spec_of(), images=clips[:4], generated=clips[4:])
    assert numbers(of_clips) == numbers(evaluate(spec_of(), images=images[:4], generated=images[4:]))
    moving = photographs(12, 32).unflatten(0, (4, 3)).transpose(1, 2)
    assert evaluate(spec_of(), images=moving, generated=moving)["sliced_wasserstein"].value == 0


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        ((4, 3, 32, 32), (3, 3, 32, 32), r"as many generated images as real ones, of one size; got shapes \(3, 3, 32"),
        ((4, 3, 32, 32), (4, 3, 16, 16), r"got shapes \(4, 3, 16, 16\) and \(4, 3, 32, 32\)"),
        ((4, 3, 12, 32), (4, 3, 12, 32), "at least 16x16 pixels, got 12x32"),
    ],
)
def test_sets_that_do_not_compare_are_an_error(
    real: tuple[int, ...], generated: tuple[int, ...], message: str, noise: Noise, evaluate: Evaluate
) -> None:
    """Messages with the shapes found."""
    with pytest.raises(DataError, match=message):
        evaluate(spec_of(), images=noise(*real), generated=noise(*generated))


def test_a_change_of_size_and_no_images_are_errors(noise: Noise, evaluate: Evaluate) -> None:
    """A second batch of another size; computing before any update."""
    evaluator = spec_of().build(BuildContext())
    evaluate(evaluator, images=noise(1, 3, 32, 32), generated=noise(1, 3, 32, 32))
    with pytest.raises(DataError, match="images of 64 pixels follow images of 32"):
        evaluate(evaluator, images=noise(1, 3, 64, 64), generated=noise(1, 3, 64, 64))
    with pytest.raises(DataError, match="no images were evaluated"):
        spec_of().build(BuildContext()).compute()
