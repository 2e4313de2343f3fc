"""How far times are shifted towards noise, by the size of the latents. Free of torch."""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator


def _checked(value: object) -> object:
    if value == "auto" or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError(f"time_shift is {value!r}; expected a number greater than 0, or auto")


#: A factor, or ``auto`` for that of ``dimension_shift``.
TimeShift = Annotated[float | Literal["auto"], BeforeValidator(_checked)]
#: Numbers in latents that need no shift: those of 32 x 32 x 4.
BASE = 4096.0


def said(shift: float | Literal["auto"], latent_shape: tuple[int, ...] | None, base: float = BASE) -> list[str]:
    """What ``auto`` is for latents of a shape, in a sentence; nothing where it is not asked for or not known yet."""
    if shift != "auto" or latent_shape is None:
        return []
    numbers = " x ".join(map(str, latent_shape))
    return [f"time_shift auto is {dimension_shift(latent_shape, base):.4g}, sqrt({numbers} / {base:g})"]


def dimension_shift(latent_shape: tuple[int, ...], base: float = BASE) -> float:
    """``sqrt(m / base)`` with m the numbers in latents of a shape: the more there are, the less noise hides them.

    Source: Zheng et al. (2025), section 4.2, after Esser et al. (2024), equation 23, where m counts pixels.
    """
    return math.sqrt(math.prod(latent_shape) / base)
