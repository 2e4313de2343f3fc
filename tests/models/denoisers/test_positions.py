import math

import numpy as np
import pytest
import torch

from diffusability.models.denoisers.positions import (
    grid_positions,
    rotary_pairs,
    rotary_table,
    rotate,
    time_frequencies,
)


@pytest.mark.parametrize(("rows", "columns", "size"), [(3, 5, 16), (4, 4, 192), (1, 7, 8)])
def test_grid_positions_follow_the_formula(rows: int, columns: int, size: int) -> None:
    """Every entry against ``sin`` and ``cos`` of ``p / 10000^(k / (size / 4))``, column first, written out."""
    positions = grid_positions((rows, columns), size).numpy()
    quarter = size // 4
    expected = np.zeros((rows * columns, size))
    for cell in range(rows * columns):
        for half, place in enumerate((cell % columns, cell // columns)):
            for k in range(quarter):
                angle = place / 10000 ** (k / quarter)
                expected[cell, 2 * half * quarter + k] = math.sin(angle)
                expected[cell, (2 * half + 1) * quarter + k] = math.cos(angle)
    np.testing.assert_allclose(positions, expected, atol=1e-6)


def test_cells_have_distinct_positions() -> None:
    """The smallest distance between two cells of a non-square grid, against 0."""
    positions = grid_positions((6, 9), 32)
    distances = torch.cdist(positions, positions) + 10 * torch.eye(54)
    assert distances.min() > 0.1


def test_positions_of_clips_give_a_quarter_to_the_frame() -> None:
    """The first quarter against the formula of the frame; the rest against the 2-D embedding of the same cell."""
    positions = grid_positions((3, 2, 4), 64)
    for cell in range(24):
        frame = cell // 8
        angles = frame / 10000 ** (np.arange(8) / 8)
        np.testing.assert_allclose(positions[cell, :16], np.concatenate([np.sin(angles), np.cos(angles)]), atol=1e-6)
    torch.testing.assert_close(positions[:8, 16:], grid_positions((2, 4), 48), rtol=0, atol=0)
    torch.testing.assert_close(positions[8:16, 16:], positions[:8, 16:], rtol=0, atol=0)


@pytest.mark.parametrize(("grid", "size"), [((3, 5), 16), ((2, 3, 2), 72)])
def test_rotation_is_multiplication_of_complex_numbers(grid: tuple[int, ...], size: int) -> None:
    """Every rotated pair against ``exp(i place / 10000^(k / pairs))`` times the pair, as complex numbers."""
    vectors = torch.randn(math.prod(grid), size, generator=torch.Generator().manual_seed(0))
    rotated = rotate(vectors, *rotary_table(grid, size))
    places = np.stack(np.unravel_index(np.arange(math.prod(grid)), grid), axis=1)
    angles = np.concatenate(
        [
            places[:, axis, None] / 10000 ** (np.arange(pairs) / pairs)
            for axis, pairs in enumerate(rotary_pairs(len(grid), size))
        ],
        axis=1,
    )
    pairs = vectors.numpy()[:, : size // 2] + 1j * vectors.numpy()[:, size // 2 :]
    expected = pairs * np.exp(1j * angles)
    np.testing.assert_allclose(rotated.numpy(), np.concatenate([expected.real, expected.imag], axis=1), atol=1e-5)


@pytest.mark.parametrize("size", [15, 2])
def test_heads_that_cannot_be_rotated_are_refused(size: int) -> None:
    """An odd size, and one with too few pairs."""
    with pytest.raises(ValueError, match=f"even head size of at least 4, got {size}"):
        rotary_pairs(2, size)


def test_a_size_that_cannot_be_split_is_refused() -> None:
    """Rows and columns each need sines and cosines."""
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        grid_positions((2, 2), 6)


def test_time_frequencies_follow_the_formula() -> None:
    """Every entry against ``cos`` and ``sin`` of ``1000 t / 10000^(k / 128)``, in float64."""
    times = np.array([0.0, 0.001, 0.37, 1.0])
    frequencies = time_frequencies(torch.tensor(times, dtype=torch.float32), 256).numpy()
    angles = 1000 * times[:, None] / 10000 ** (np.arange(128) / 128)
    np.testing.assert_allclose(frequencies, np.concatenate([np.cos(angles), np.sin(angles)], axis=1), atol=2e-4)


def test_time_frequencies_stay_precise_for_half_precision_times() -> None:
    """The dtype, when times are bf16: angles of up to 1000 need float32."""
    assert time_frequencies(torch.tensor([0.5], dtype=torch.bfloat16), 16).dtype == torch.float32
