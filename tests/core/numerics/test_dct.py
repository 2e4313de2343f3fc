import itertools

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusability.core.numerics.dct import (
    chop,
    chop_mask,
    dct2,
    dct_matrix,
    from_blocks,
    idct2,
    to_blocks,
    zigzag_order,
)

# ITU-T T.81, figure A.6: the place of each coefficient of an 8x8 block in the zigzag sequence.
JPEG_ZIGZAG = [
    [0, 1, 5, 6, 14, 15, 27, 28],
    [2, 4, 7, 13, 16, 26, 29, 42],
    [3, 8, 12, 17, 25, 30, 41, 43],
    [9, 11, 18, 24, 31, 40, 44, 53],
    [10, 19, 23, 32, 39, 45, 52, 54],
    [20, 22, 33, 38, 46, 51, 55, 60],
    [21, 34, 37, 47, 50, 56, 59, 61],
    [35, 36, 48, 49, 57, 58, 62, 63],
]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(8, 8), (4, 8), (2, 3, 5, 7), (64, 64)])
def test_dct2_is_scipys(shape: tuple[int, ...]) -> None:
    """The block transform against scipy's orthonormal DCT-II, also of oblong and odd blocks."""
    blocks = noise(*shape)
    expected = scipy.fft.dctn(blocks.numpy(), axes=(-2, -1), norm="ortho")
    np.testing.assert_allclose(dct2(blocks).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(idct2(torch.from_numpy(expected)).numpy(), blocks.numpy(), atol=1e-12)


@given(size=st.integers(1, 64))
def test_the_dct_matrix_is_orthonormal(size: int) -> None:
    """D D^T against the identity, for any size."""
    matrix = dct_matrix(size, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(size, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_dct_matrix_is_float32_unless_asked() -> None:
    """The default dtype, and that of the tensor it is to match."""
    assert dct_matrix(8).dtype == torch.float32
    assert dct_matrix(8, torch.zeros((), dtype=torch.bfloat16)).dtype == torch.bfloat16


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_blocks_come_back_and_keep_energy(rows: int, columns: int, size: int, seed: int) -> None:
    """Cutting and joining against the input, and the coefficients' energy against the pixels' (Parseval)."""
    images = noise(2, 3, rows * size, columns * size, seed=seed)
    blocks = to_blocks(images, size)
    assert blocks.shape == (2, 3, rows, columns, size, size)
    assert torch.equal(from_blocks(blocks), images)
    torch.testing.assert_close(dct2(blocks).square().sum(), images.square().sum())


def test_blocks_are_where_numpy_slices_them() -> None:
    """Every block against the slice of the map that it covers."""
    images = noise(3, 16, 24)
    blocks = to_blocks(images, 8)
    for row in range(2):
        for column in range(3):
            expected = images[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert torch.equal(blocks[:, row, column], expected)


def test_a_map_that_is_not_whole_blocks_is_refused() -> None:
    """The message names the map's sides and the block's."""
    with pytest.raises(ValueError, match="12x16 map cannot be cut into 8x8"):
        to_blocks(torch.zeros(12, 16), 8)


def test_zigzag_is_jpegs() -> None:
    """The order against the table of the JPEG standard."""
    places = torch.empty(64, dtype=torch.long)
    places[zigzag_order(8)] = torch.arange(64)
    assert places.view(8, 8).tolist() == JPEG_ZIGZAG


@given(size=st.integers(1, 20))
def test_zigzag_walks_to_neighbours_and_visits_all(size: int) -> None:
    """Every coefficient once, each next to the one before (also diagonally), frequencies u + v never falling."""
    order = zigzag_order(size)
    assert sorted(order.tolist()) == list(range(size * size))
    u, v = order // size, order % size
    assert bool(((u + v).diff() >= 0).all())
    assert bool((u.diff().abs() <= 1).all() and (v.diff().abs() <= 1).all())


@pytest.mark.parametrize(
    ("ratio", "shape", "kept"),
    [
        (0.0, "zigzag", 64),
        (0.5, "zigzag", 32),
        (0.9, "zigzag", 6),
        (63 / 64, "zigzag", 1),
        (1.0, "zigzag", 0),
        (0.0, "square", 64),
        (0.5, "square", 16),
        (0.9, "square", 0),
    ],
)
def test_chop_keeps_as_many_as_the_paper_says(ratio: float, shape: str, kept: int) -> None:
    """int((1-r) b^2) in zigzag order, int((1-r) b)^2 in a square, counted by hand."""
    mask = chop_mask(8, ratio, shape)
    assert int(mask.sum()) == kept
    assert bool(mask[0, 0]) == (kept > 0)


def test_chop_ratio_is_not_a_victim_of_float_noise() -> None:
    """(1 - 0.9) * 10 is 0.9999999999999998 in floats, and still one row of a 10x10 square."""
    assert int(chop_mask(10, 0.9, "square").sum()) == 1
    assert int(chop_mask(10, 0.9, "zigzag").sum()) == 10


def test_chop_is_scipys_zeroing_of_high_frequencies() -> None:
    """One block against scipy: transform, zero what comes late in the JPEG table, transform back."""
    block = noise(8, 8)
    coefficients = scipy.fft.dctn(block.numpy(), norm="ortho")
    coefficients[np.array(JPEG_ZIGZAG) >= 16] = 0
    np.testing.assert_allclose(chop(block, 0.75).numpy(), scipy.fft.idctn(coefficients, norm="ortho"), atol=1e-12)


@given(ratio=st.floats(0, 1), shape=st.sampled_from(["zigzag", "square"]), block_size=st.sampled_from([1, 2, 4, 8, 16]))
def test_chop_is_an_orthogonal_projection(ratio: float, shape: str, block_size: int) -> None:
    """Linear, idempotent and symmetric: <Px, y> = <x, Py>."""
    x, y = noise(2, 16, 16), noise(2, 16, 16, seed=1)

    def project(images: torch.Tensor) -> torch.Tensor:
        return chop(images, ratio, block_size, shape)

    torch.testing.assert_close(project(2 * x - 3 * y), 2 * project(x) - 3 * project(y), atol=1e-10, rtol=0)
    torch.testing.assert_close(project(project(x)), project(x), atol=1e-10, rtol=0)
    torch.testing.assert_close((project(x) * y).sum(), (x * project(y)).sum(), atol=1e-10, rtol=0)


@given(ratios=st.lists(st.floats(0, 1), min_size=2, max_size=6), shape=st.sampled_from(["zigzag", "square"]))
def test_chop_leaves_less_energy_the_more_it_chops(ratios: list[float], shape: str) -> None:
    """Energies in the order of the ratios; nothing chopped gives the input, all chopped gives zero."""
    images = noise(1, 16, 16)
    energies = [chop(images, ratio, 8, shape).square().sum().item() for ratio in sorted(ratios)]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(energies))
    torch.testing.assert_close(chop(images, 0.0, 8, shape), images)
    assert not chop(images, 1.0, 8, shape).any()


def test_chop_refuses_what_it_does_not_know() -> None:
    """Messages with the value and what was expected."""
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.5"):
        chop(torch.zeros(8, 8), 1.5)
    with pytest.raises(ValueError, match="unknown shape 'round'; expected 'zigzag' or 'square'"):
        chop(torch.zeros(8, 8), 0.5, shape="round")


def test_gradients_of_the_chop() -> None:
    """Autograd against finite differences, in float64."""
    images = noise(1, 8, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: chop(x, 0.6, 4), (images,))


def test_what_was_first_used_without_gradients_serves_gradients_later() -> None:
    """Sizes first asked for in inference mode (as in an evaluation) or under another default device."""
    with torch.inference_mode():
        dct2(noise(11, 11))
        zigzag_order(11)
    with torch.device("meta"):
        dct_matrix(13)
        zigzag_order(13)
    for size in (11, 13):
        block = noise(size, size).requires_grad_()
        dct2(block).flatten()[zigzag_order(size)][1:].square().sum().backward()
        expected = block.detach() - block.detach().mean()  # all but DC, by Parseval
        torch.testing.assert_close(block.grad, 2 * expected)
