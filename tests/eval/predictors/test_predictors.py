import math

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde
from sklearn.neighbors import NearestNeighbors

from diffusability.eval.predictors.equivariance import squared_error, transformations
from diffusability.eval.predictors.interpolation import path_directness
from diffusability.eval.predictors.neighbor_consistency import neighbor_consistency
from diffusability.eval.predictors.uniformity import embedded, kernel_densities, uniformity
from diffusability.eval.streaming.bootstrap import bootstrap_spread, spread_of_mean


def test_neighbor_consistency_counts_labels_of_nearest_neighbors():
    """Against scikit-learn's nearest neighbours by cosine of the vectors themselves."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(60, 8, dtype=torch.float64, generator=generator)
    labels = torch.randint(3, (60,), generator=generator)
    plain = vectors.numpy()
    _, nearest = NearestNeighbors(n_neighbors=6, metric="cosine").fit(plain).kneighbors(plain)
    expected = [np.mean(labels.numpy()[row[1:]] == own) for row, own in zip(nearest, labels.numpy(), strict=True)]
    assert neighbor_consistency(vectors, labels, 5).tolist() == pytest.approx(expected)


def test_separated_classes_are_wholly_consistent():
    vectors = torch.eye(2, dtype=torch.float64).repeat_interleave(10, 0)
    labels = torch.arange(2).repeat_interleave(10)
    noise = 0.01 * torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert neighbor_consistency(vectors + noise, labels, 9).min().item() == 1.0


def test_more_neighbors_than_samples_are_refused():
    with pytest.raises(ValueError, match="10 neighbours need more than 10 samples, got 10"):
        neighbor_consistency(torch.randn(10, 3), torch.zeros(10, dtype=torch.long), 10)


def test_densities_are_scipys():
    """Against scipy.stats.gaussian_kde with its default bandwidth."""
    points = torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) @ torch.tensor(
        [[2.0, 0.5], [0.0, 0.3]], dtype=torch.float64
    )
    expected = gaussian_kde(points.T.numpy())(points.T.numpy())
    assert kernel_densities(points).tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_equal_densities_are_uniform():
    """Closed form: coefficient of variation and Gini 0, entropy 1."""
    result = uniformity(torch.full((50,), 0.2, dtype=torch.float64))
    assert (result.cv, result.gini, result.entropy) == pytest.approx((0, 0, 1), abs=1e-12)


def test_uneven_densities_follow_the_definitions():
    """Gini against half the relative mean absolute difference of all pairs; entropy against its sum."""
    densities = torch.tensor([0.5, 2.0, 1.0, 4.0], dtype=torch.float64)
    values = densities.tolist()
    mean = sum(values) / 4
    gini = sum(abs(a - b) for a in values for b in values) / (2 * 16 * mean)
    entropy = -sum(v / 7.5 * math.log(v / 7.5) for v in values) / math.log(4)
    result = uniformity(densities)
    assert result.gini == pytest.approx(gini)
    assert result.entropy == pytest.approx(entropy)
    assert result.cv == pytest.approx(float(np.std(values)) / mean)


def test_the_embedding_keeps_clusters_apart():
    """Two far clusters in ten dimensions stay separable by a line between their means."""
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(60, 10, generator=generator)
    points[30:] += 20
    plane = embedded(points)
    first, second = plane[:30], plane[30:]
    axis = second.mean(0) - first.mean(0)
    assert ((first - plane.mean(0)) @ axis).max() < ((second - plane.mean(0)) @ axis).min()


@pytest.mark.parametrize("name", ["scale", "rotation", "flip", "shift"])
def test_an_equivariant_encoder_has_no_error(name, pooling, photographs):
    """Theory: average pooling commutes with each of the transformations."""
    images, encoder = photographs(2, 32), pooling(4)
    transformed, expect = transformations(4)[name](images)
    assert squared_error(encoder.encode(transformed).mean, expect(encoder.encode(images).mean)).max().item() < 1e-12


def test_a_position_dependent_encoder_has_an_error(pooling, photographs):
    images, encoder = photographs(2, 32), pooling(4)
    ramp = torch.linspace(0, 1, 8)
    transformed, expect = transformations(4)["flip"](images)
    assert (
        squared_error(encoder.encode(transformed).mean + ramp, expect(encoder.encode(images).mean + ramp)).min() > 0.1
    )


def test_straight_paths_are_direct_and_curved_ones_are_not():
    """Closed form: a straight path gives 1, a half circle 2 / pi, a path that stands still 1."""
    share = torch.linspace(0, 1, 2001, dtype=torch.float64)
    straight = share[:, None, None] * torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    circle = torch.stack([torch.cos(math.pi * share), torch.sin(math.pi * share)], dim=1)[:, None]
    paths = torch.cat([straight, circle, torch.ones_like(circle)], dim=1)
    assert path_directness(paths).tolist() == pytest.approx([1, 2 / math.pi, 1], rel=1e-6)


def test_the_spread_of_a_mean_is_its_standard_error():
    """Against s / sqrt(n)."""
    values = torch.randn(400, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert spread_of_mean(values, 500) == pytest.approx(values.std().item() / 20, rel=0.15)


def test_too_few_items_have_no_spread():
    assert bootstrap_spread(1, lambda chosen: 0.0, 10) is None
    assert bootstrap_spread(10, lambda chosen: 0.0, 1) is None
