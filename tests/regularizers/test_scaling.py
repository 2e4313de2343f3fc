import pytest
from pydantic import TypeAdapter, ValidationError

from diffusability.regularizers.specs.factors import Factor, sides_of, small_size

FACTOR = TypeAdapter(Factor)


@pytest.mark.parametrize(("written", "sides"), [(2, (2, 2)), (1.5, (1.5, 1.5)), ([2, 1], (2, 1)), ((1, 2.5), (1, 2.5))])
def test_factors_are_numbers_or_pairs(written: object, sides: tuple[float, float]) -> None:
    """What a spec may say against height and width."""
    factor = FACTOR.validate_python(written)
    assert sides_of(factor) == sides
    assert FACTOR.validate_python(FACTOR.dump_python(factor, mode="json")) == factor


@pytest.mark.parametrize("written", [1, 0.5, -2, [1, 1], [2], [2, 2, 2], "2", True, float("nan"), float("inf"), None])
def test_what_shrinks_nothing_is_refused(written: object) -> None:
    """Numbers up to 1, wrong lengths and types, and numbers that are not finite."""
    with pytest.raises(ValidationError, match="expected a"):
        FACTOR.validate_python(written)


@pytest.mark.parametrize(
    ("size", "factor", "small"),
    [((16, 16), 2, (8, 8)), ((16, 24), 1.5, (11, 16)), ((16, 24), (2, 1), (8, 24)), ((4, 4), 4, (1, 1))],
)
def test_sizes_are_rounded(size: tuple[int, int], factor: Factor, small: tuple[int, int]) -> None:
    """Sizes by hand."""
    assert small_size(size, factor) == small


@pytest.mark.parametrize(
    ("size", "factor", "message"),
    [
        ((4, 4), 8, "leaves less than one pixel"),
        ((4, 8), (4.5, 1), "leaves less than one pixel"),
        ((6, 8), 4, "does not divide"),
        ((8, 8), 1.01, "as it is"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(size: tuple[int, int], factor: Factor, message: str) -> None:
    """Each with the words that say why."""
    with pytest.raises(ValueError, match=message):
        small_size(size, factor)
