"""Downsampling factors: how a spec writes them, and the sizes that they lead to."""

import math
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema


def check_blocks(kind: str, block_size: int, latent_shape: tuple[int, ...]) -> None:
    """Looks whether latents of shape ``(c, *t, h, w)`` consist of whole blocks.

    Raises:
        ValueError: they do not.
    """
    height, width = latent_shape[-2:]
    if height % block_size or width % block_size:
        raise ValueError(
            f"{kind}: block_size {block_size!r} does not divide latents of {height}x{width}; expected a common divisor"
            " of both sides"
        )


def _factor(value: Any) -> float | tuple[float, float]:
    """A factor above 1, or a pair of factors of height and width, at least 1 and not both 1."""
    sides = tuple(value) if isinstance(value, list | tuple) else (value,)
    numbers = all(isinstance(side, int | float) and not isinstance(side, bool) for side in sides)
    whole = len(sides) == (2 if isinstance(value, list | tuple) else 1)
    if not numbers or not whole or not all(math.isfinite(side) and side >= 1 for side in sides):
        raise ValueError(
            f"{value!r} is not a valid downsampling factor; expected a number above 1, or [height, width] factors"
        )
    if max(sides) == 1:
        raise ValueError(f"{value!r} leaves everything as it is; expected a factor above 1")
    return sides if len(sides) == 2 else sides[0]


#: A factor of both sides, or one of height and one of width.
Factor = Annotated[
    float | tuple[float, float],
    PlainValidator(_factor),
    PlainSerializer(lambda factor: list(factor) if isinstance(factor, tuple) else factor, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 1},
                {"type": "array", "items": {"type": "number", "minimum": 1}, "minItems": 2, "maxItems": 2},
            ]
        }
    ),
]


def sides_of(factor: Factor) -> tuple[float, float]:
    """The factors of height and width."""
    return factor if isinstance(factor, tuple) else (factor, factor)


def small_size(size: tuple[int, int], factor: Factor) -> tuple[int, int]:
    """Height and width after downsampling, rounded to whole pixels.

    Raises:
        ValueError: less than one pixel would be left, a whole factor does not divide a side, or rounding leaves the
            size as it is.
    """
    height, width = size
    for side, by in zip(size, sides_of(factor), strict=True):
        if side < by:
            raise ValueError(
                f"factor {factor!r} leaves less than one pixel of a map of {height}x{width};"
                f" expected factors of at most {min(size)}"
            )
        if float(by).is_integer() and side % int(by):
            raise ValueError(
                f"factor {factor!r} does not divide a map of {height}x{width}; expected a common divisor of both sides,"
                " or a fraction, which is rounded to whole pixels"
            )
    small = (max(1, round(height / sides_of(factor)[0])), max(1, round(width / sides_of(factor)[1])))
    if small == (height, width):
        raise ValueError(f"factor {factor!r} leaves a map of {height}x{width} as it is; expected a larger factor")
    return small
