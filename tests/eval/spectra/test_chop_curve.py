import numpy as np
import pytest
import scipy.integrate
from hypothesis import given
from hypothesis import strategies as st

from diffusability.eval.spectra.chop_off import area_under, distinct_shares, kept_share


@pytest.mark.parametrize(
    ("share", "size", "shape", "expected"),
    [
        (1.0, 8, "zigzag", 1.0),
        (0.5, 8, "zigzag", 32 / 64),
        (0.3, 8, "zigzag", 19 / 64),
        (1 / 64, 8, "zigzag", 1 / 64),
        (0.01, 8, "zigzag", 0.0),
        (0.5, 8, "square", 16 / 64),
        (0.3, 8, "square", 4 / 64),
    ],
)
def test_the_share_really_kept(share: float, size: int, shape: str, expected: float) -> None:
    """int(share b^2) and int(share b)^2 over b^2, by hand."""
    assert kept_share(share, size, shape) == expected


def test_shares_that_cannot_be_told_apart_are_left_out() -> None:
    """In blocks of 4: 0.30 and 0.26 both keep 4 of 16, 0.05 keeps none; the order is from 1 down."""
    assert distinct_shares([0.26, 1.0, 0.05, 0.3, 0.125], 4, "zigzag") == [1.0, 0.3, 0.125]
    assert distinct_shares([1.0, 0.75, 0.5, 0.25, 0.125, 0.0625], 8, "square") == [1.0, 0.75, 0.5, 0.25, 0.125]


@given(
    shares=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=8, unique=True),
    values=st.lists(st.floats(0, 60), min_size=9, max_size=9),
)
def test_area_is_scipys_trapezoid_rule(shares: list[float], values: list[float]) -> None:
    """With the curve continued to 0 as a constant; the order of the points does not matter."""
    shares, values = [*shares, 1.0], values[: len(shares) + 1]
    points = sorted(zip(shares, values, strict=True))
    x, y = np.array([(0.0, points[0][1]), *points]).T
    assert area_under(shares, values) == pytest.approx(scipy.integrate.trapezoid(y, x), abs=1e-9)


def test_area_of_a_constant_is_the_constant() -> None:
    """The area is a mean over shares, in the unit of the values."""
    assert area_under([1.0, 0.5, 0.25], [31.0, 31.0, 31.0]) == pytest.approx(31.0)
