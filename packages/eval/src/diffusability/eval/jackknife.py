"""How far a statistic would move if its samples were drawn anew, from what it is without some of them."""

import math
from collections.abc import Sequence


def jackknife_spread(left_out: Sequence[float]) -> float:
    """Standard deviation of a statistic, of its values without each of ``K`` equal groups of independent samples.

    ``sqrt((K - 1) / K sum_k (t_k - mean t)^2)`` (Tukey 1958; groups: Shao & Tu 1995, section 2.2.2). Groups of one
    sample are the ordinary jackknife. It is itself known to a share of about ``1 / sqrt(2 (K - 1))``: a quarter for ten
    groups. A bias that is the same without any group, as that of Frechet distances of few samples, does not enter.

    Raises:
        ValueError: fewer than two groups.
    """
    count = len(left_out)
    if count < 2:
        raise ValueError(f"a jackknife needs at least two groups, got {count}")
    mean = math.fsum(left_out) / count
    return math.sqrt((count - 1) / count * math.fsum((value - mean) ** 2 for value in left_out))
