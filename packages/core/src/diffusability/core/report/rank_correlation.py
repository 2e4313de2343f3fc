"""Rank correlation with bootstrap intervals, on a few pairs of numbers."""

import attrs
import numpy as np
from jaxtyping import Float

from diffusability.core.errors import DataError

FEWEST_PAIRS = 4


@attrs.frozen(kw_only=True)
class RankCorrelation:
    """Spearman's coefficient and its percentile bootstrap interval.

    Attributes:
        value: in [-1, 1].
        low: 2.5% quantile over bootstrap samples of the pairs.
        high: 97.5% quantile.
        num_pairs: how many pairs there are.
    """

    value: float
    low: float
    high: float
    num_pairs: int


def ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks from 1; ties share their mean rank."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.searchsorted(ordered, values, side="left")
    ends = np.searchsorted(ordered, values, side="right")
    return (starts + ends + 1) / 2


def spearman(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Pearson's correlation of the ranks (Spearman 1904); 0 when one side is constant."""
    x, y = ranks(first), ranks(second)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else 0.0


def rank_correlation(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"], num_replicates: int = 2000, seed: int = 0
) -> RankCorrelation:
    """Spearman's coefficient with a 95% interval over resampled pairs.

    Raises:
        DataError: fewer than four pairs: a rank correlation of three is meaningless.
    """
    count = len(first)
    if count < FEWEST_PAIRS:
        raise DataError(f"a rank correlation needs at least {FEWEST_PAIRS} pairs, got {count}")
    generator = np.random.default_rng(seed)
    chosen = generator.integers(count, size=(num_replicates, count))
    values = [spearman(first[row], second[row]) for row in chosen]
    low, high = np.quantile(values, [0.025, 0.975])
    return RankCorrelation(value=spearman(first, second), low=float(low), high=float(high), num_pairs=count)
