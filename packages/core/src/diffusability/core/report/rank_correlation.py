"""Rank correlation with bootstrap intervals, on a few pairs of numbers."""

import attrs
import numpy as np
from jaxtyping import Float
from scipy.stats import bootstrap, rankdata

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


def spearman(first: Float[np.ndarray, "*r n"], second: Float[np.ndarray, "*r n"]) -> Float[np.ndarray, "*r"]:
    """Pearson's correlation of the ranks along the last axis (Spearman 1904); 0 where one side is constant.

    (``scipy.stats.spearmanr`` is NaN there, and a resample of few pairs often is constant.)
    """
    x, y = rankdata(first, axis=-1), rankdata(second, axis=-1)
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    norm = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    correlation: Float[np.ndarray, "*r"] = np.divide((x * y).sum(-1), norm, out=np.zeros_like(norm), where=norm > 0)
    return correlation


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
    interval = bootstrap(
        (first, second),
        lambda x, y, axis: spearman(x, y),
        paired=True,
        vectorized=True,
        n_resamples=num_replicates,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return RankCorrelation(
        value=float(spearman(first, second)), low=float(interval.low), high=float(interval.high), num_pairs=count
    )
