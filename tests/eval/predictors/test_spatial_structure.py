import math

import pytest
import torch

from diffusability.eval.predictors.spatial_structure import (
    correlation_decay_slope,
    cosine_similarities,
    local_distant_similarity,
    luminance_foreground,
    manhattan_distances,
    mean_by_distance,
    region_self_similarity,
)

HEIGHT, WIDTH = 5, 7


@pytest.fixture
def latents():
    return torch.randn(3, 4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def pairs():
    places = [(row, column) for row in range(HEIGHT) for column in range(WIDTH)]
    for a in places:
        for b in places:
            yield a, b, abs(a[0] - b[0]) + abs(a[1] - b[1])


def cosine(image, a, b):
    return torch.nn.functional.cosine_similarity(image[:, a[0], a[1]], image[:, b[0], b[1]], dim=0).item()


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def measured(latents):
    return cosine_similarities(latents), manhattan_distances(HEIGHT, WIDTH)


def by_distance(latents):
    return mean_by_distance(*measured(latents))


def test_local_against_distant_similarity_is_the_difference_of_two_means(latents):
    """Against loops over all pairs of places."""
    result = local_distant_similarity(*by_distance(latents), far=6)
    for image, value in zip(latents, result.tolist(), strict=True):
        near = mean(cosine(image, a, b) for a, b, distance in pairs() if distance == 1)
        far = mean(cosine(image, a, b) for a, b, distance in pairs() if distance >= 6)
        assert value == pytest.approx(near - far, abs=1e-6)


def test_decay_is_minus_the_slope_of_a_fitted_line(latents):
    """Against numpy.polyfit's formula written out, on means by loops."""
    result = correlation_decay_slope(by_distance(latents)[0], longest=8)
    for image, value in zip(latents, result.tolist(), strict=True):
        means = [mean(cosine(image, a, b) for a, b, gap in pairs() if gap == distance) for distance in range(1, 9)]
        centre, level = mean(range(1, 9)), mean(means)
        slope = sum((d - centre) * (m - level) for d, m in zip(range(1, 9), means, strict=True))
        assert value == pytest.approx(-slope / sum((d - centre) ** 2 for d in range(1, 9)), abs=1e-6)


def test_regions_are_compared_from_each_foreground_place(latents):
    """Against loops over anchors, with a mask whose edges matter."""
    mask = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, :3, :3] = True
    result = region_self_similarity(*measured(latents), mask.flatten(1), far=4)
    for image, value in zip(latents, result.tolist(), strict=True):
        deltas = []
        for anchor in {a for a, _, _ in pairs() if mask[0, a[0], a[1]]}:
            near = [cosine(image, a, b) for a, b, d in pairs() if a == anchor and d == 1 and mask[0, b[0], b[1]]]
            far = [cosine(image, a, b) for a, b, d in pairs() if a == anchor and d >= 4 and not mask[0, b[0], b[1]]]
            deltas.append(mean(near) - mean(far))
        assert value == pytest.approx(mean(deltas), abs=1e-6)


def test_a_constant_map_has_no_spatial_structure():
    """Theory: all similarities are 1, so differences and slopes are 0."""
    means, counts = by_distance(torch.ones(1, 4, HEIGHT, WIDTH))
    assert local_distant_similarity(means, counts).item() == pytest.approx(0, abs=1e-6)
    assert correlation_decay_slope(means).item() == pytest.approx(0, abs=1e-6)


def test_small_grids_have_no_distant_pairs():
    latents = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    means, counts = mean_by_distance(cosine_similarities(latents), manhattan_distances(3, 3))
    assert math.isnan(local_distant_similarity(means, counts).item())


def test_foreground_is_the_rarer_side_of_the_best_threshold():
    """A bright square on a dark ground with noise, and its negative; the split against an exhaustive search."""
    image = torch.full((1, 3, 32, 32), -0.5)
    image[:, :, 8:16, 8:16] = 0.5
    image = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, 2:4] = True
    assert torch.equal(luminance_foreground(image, 8, 8).view(8, 8), expected)
    assert torch.equal(luminance_foreground(-image, 8, 8).view(8, 8), expected)
