"""The distance of Gaussians and the statistics that it is computed from."""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.eval.generation.frechet import frechet_distance
from diffusability.eval.streaming.gaussian_statistics import GaussianStatistics


def covariance(dimension: int, rank: int, seed: int) -> Tensor:
    """A random covariance of that rank."""
    factors = torch.randn(dimension, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factors @ factors.T / rank


def vectors(count: int, dimension: int, seed: int = 0) -> Tensor:
    """Random features with a large mean and different scales, in float32."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(-2, 1, dimension)
    return torch.randn(count, dimension, generator=generator) * scales + 100


def statistics_of(*batches: Tensor) -> GaussianStatistics:
    """What is known after these batches."""
    statistics = GaussianStatistics()
    for batch in batches:
        statistics.update(batch)
    return statistics


@pytest.mark.parametrize("rank", [64, 40])
def test_the_distance_is_that_of_scipys_matrix_root(rank: int) -> None:
    """``tr(S1 + S2 - 2 sqrtm(S1 S2)) + |m1 - m2|^2`` with scipy.linalg.sqrtm, of full and of deficient rank."""
    first, second = covariance(64, 64, 0), covariance(64, rank, 1)
    means = torch.randn(2, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    root = scipy.linalg.sqrtm((first @ second).numpy()).real
    expected = (means[0] - means[1]).square().sum() + first.trace() + second.trace() - 2 * np.trace(root)
    assert frechet_distance(means[0], first, means[1], second) == pytest.approx(float(expected), rel=1e-6)


def rounding_of(covariances: list[Tensor]) -> float:
    """How far a distance may be off by rounding alone, from the conditioning of the covariances.

    A symmetric eigenvalue solver gives the exact decomposition of ``S + E`` with ``|E| <= 4 d eps |S|``, and forming S
    rounds no worse. On the axes where S is not 0, of which the smallest eigenvalue is m, the root then moves by at most
    ``|E| / (2 sqrt(m))`` each time, and each of the d singular values of the product of roots by that times the norm of
    the other root. Traces add ``d eps tr(S)``.
    """
    eps, dimension = torch.finfo(torch.float64).eps, len(covariances[0])
    total = 0.0
    for own, other in (covariances, covariances[::-1]):
        values = torch.linalg.eigvalsh(own)
        smallest = values[values > 1e-6 * values[-1]].min()
        moved = 2 * 4 * dimension * eps * values[-1] / (2 * smallest.sqrt())
        total += float(2 * dimension * moved * torch.linalg.eigvalsh(other)[-1].sqrt() + dimension * eps * values.sum())
    return total


@pytest.mark.parametrize(
    "empty", [((), ()), (range(5), ()), ((), range(5)), (range(5), range(9, 16)), (range(15),) * 2]
)
def test_commuting_gaussians_have_a_closed_form(empty: tuple[Sequence[int], Sequence[int]]) -> None:
    """``|m1 - m2|^2 + sum (s1 - s2)^2`` where the covariances have the same axes, along some of which there may be
    nothing: of one set, of either along others, of both."""
    axes, _ = torch.linalg.qr(covariance(16, 16, 3))
    spreads = torch.rand(2, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 3 + 0.1
    for spread, places in zip(spreads, empty, strict=True):
        spread[list(places)] = 0
    covariances = [axes @ torch.diag(spread.square()) @ axes.T for spread in spreads]
    mean = torch.zeros(16, dtype=torch.float64)
    expected = float((spreads[0] - spreads[1]).square().sum() + 16 * 4.0)
    bound = rounding_of(covariances)
    assert bound < 1e-9
    assert frechet_distance(mean, covariances[0], mean + 2, covariances[1]) == pytest.approx(expected, abs=bound, rel=0)


def test_equal_gaussians_are_at_no_distance_and_order_does_not_matter() -> None:
    """0 up to rounding; the distance there is the distance back; constant sets are as far as their means."""
    first, second, mean = covariance(32, 20, 5), covariance(32, 32, 6), torch.ones(32, dtype=torch.float64)
    assert frechet_distance(mean, first, mean, first) == pytest.approx(0, abs=rounding_of([first, first]))
    there, back = frechet_distance(mean, first, -mean, second), frechet_distance(-mean, second, mean, first)
    assert there == pytest.approx(back, abs=2 * rounding_of([first, second]), rel=0)
    nothing = torch.zeros(32, 32, dtype=torch.float64)
    assert frechet_distance(mean, nothing, 0 * mean, nothing) == 32


def test_statistics_are_numpys() -> None:
    """Mean and covariance of numpy in float64, of float32 vectors far from 0."""
    features = vectors(200, 12)
    statistics = statistics_of(*features.split(17))
    exact = features.double().numpy()
    np.testing.assert_allclose(statistics.mean.numpy(), exact.mean(0), rtol=1e-13)
    np.testing.assert_allclose(statistics.covariance().numpy(), np.cov(exact, rowvar=False), rtol=1e-9, atol=1e-12)


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12), ranks=st.integers(1, 5), seed=st.integers(0, 99))
def test_order_batches_and_ranks_do_not_matter(sizes: list[int], ranks: int, seed: int) -> None:
    """Any cut into batches, in any order, over any number of accumulators that are merged, against one batch."""
    features = vectors(sum(sizes) + 2, 6, seed)
    whole = statistics_of(features)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    batches = features[order].split([*sizes, 2])
    parts = [statistics_of(*batches[rank::ranks]) for rank in range(ranks)]
    merged = GaussianStatistics()
    for part in parts:
        merged.merge(part.on_cpu())
    assert merged.count == whole.count
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(merged.covariance(), whole.covariance(), rtol=1e-9, atol=1e-9)


def test_fewer_than_two_vectors_and_other_lengths_are_errors() -> None:
    """No covariance of one vector; features of another length."""
    with pytest.raises(DataError, match="at least two images, got 1"):
        statistics_of(vectors(1, 3)).covariance()
    with pytest.raises(DataError, match="features of length 4 follow features of length 3"):
        statistics_of(vectors(2, 3), vectors(2, 4))


def test_memory_does_not_grow_with_the_number_of_vectors() -> None:
    """Numbers held after 10 and after 1,000 batches."""
    few, many = (statistics_of(*vectors(5 * count, 8).split(5)) for count in (10, 1000))
    assert few.mean.numel() + few.scatter.numel() == many.mean.numel() + many.scatter.numel() == 8 + 64
