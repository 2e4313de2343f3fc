import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusability.eval.generation.sliced_wasserstein import random_directions, sliced_wasserstein, wasserstein_1d


@given(count=st.integers(1, 50), seed=st.integers(0, 99), shift=st.floats(-3, 3), scale=st.floats(0.1, 3))
def test_one_dimension_is_scipys(count: int, seed: int, shift: float, scale: float) -> None:
    """Each column against scipy.stats.wasserstein_distance."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    second = scale * torch.randn(count, 3, generator=generator, dtype=torch.float64) + shift
    expected = [scipy.stats.wasserstein_distance(first[:, k], second[:, k]) for k in range(3)]
    assert wasserstein_1d(first, second).tolist() == pytest.approx(expected, abs=1e-9)


def test_directions_are_unit_vectors_from_a_seed() -> None:
    """Lengths against 1; equal for equal seeds, others for others; all round the origin on average."""
    directions = random_directions(0, 512, 147)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(512, dtype=torch.float64))
    assert torch.equal(directions, random_directions(0, 512, 147))
    assert not torch.equal(directions, random_directions(1, 512, 147))
    assert directions.mean(1).norm() < 3 / 512**0.5


def test_a_shift_has_the_distance_of_its_projections() -> None:
    """A set moved by a vector: every projection moves by its inner product with the direction."""
    points = torch.randn(100, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    directions = random_directions(0, 200, 5)
    expected = (shift @ directions).abs().mean().item()
    assert sliced_wasserstein(points, points + shift, directions) == pytest.approx(expected, rel=1e-10)


def test_the_order_of_the_points_does_not_matter() -> None:
    """A set against itself in another order is 0; the distance is symmetric."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(100, 5, generator=generator, dtype=torch.float64)
    second = torch.randn(100, 5, generator=generator, dtype=torch.float64)
    directions = random_directions(0, 70, 5)  # more than one chunk, and a broken one
    assert sliced_wasserstein(first, first.flip(0), directions) == pytest.approx(0, abs=1e-15)
    forth, back = sliced_wasserstein(first, second, directions), sliced_wasserstein(second, first, directions)
    assert forth == back > 0
