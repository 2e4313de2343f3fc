"""The curve of a quality against the share of DCT coefficients that is kept."""

from collections.abc import Sequence
from itertools import pairwise

from diffusability.core.dct import chop_mask


def kept_share(share: float, block_size: int, shape: str) -> float:
    """The share of a block's coefficients that is really kept when ``share`` is asked for, in [0, 1]."""
    return chop_mask(block_size, 1 - share, shape).double().mean().item()


def distinct_shares(shares: Sequence[float], block_size: int, shape: str) -> list[float]:
    """The shares, from the largest down, that keep a coefficient and not the same ones as a larger share."""
    kept: dict[float, float] = {}
    for share in sorted(shares, reverse=True):
        kept.setdefault(kept_share(share, block_size, shape), share)
    return [share for coefficients, share in kept.items() if coefficients > 0]


def area_under(shares: Sequence[float], values: Sequence[float]) -> float:
    """Area under ``values`` over shares 0 to 1 by the trapezoid rule: their mean over the share kept, in their unit.

    Below the smallest share, where no measurement can be made, the curve is extended as a constant. The largest share
    must be 1.
    """
    points = sorted(zip(shares, values, strict=True))
    assert points[-1][0] == 1.0, "the curve ends where all is kept"
    smallest, value = points[0]
    return smallest * value + sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in pairwise(points))
