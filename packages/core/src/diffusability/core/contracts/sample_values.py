"""A metric sample by sample, kept so that variants that saw the same samples can be compared in pairs."""

import math
from collections.abc import Sequence

import attrs
import numpy as np
from jaxtyping import Float, Int

from diffusability.core.errors import DataError

Numbers = Sequence[float] | Float[np.ndarray, " n"]


@attrs.frozen(kw_only=True, eq=False)
class SampleValues:
    """The values behind a metric. Free of torch.

    Two kinds of metrics are held. One that is a mean over samples has the value of each sample. One that is of a set
    has the metric of the set without each group of its samples, as a jackknife needs.

    Attributes:
        places: ascending; the index of each sample in the evaluated set, or the number of each group. Groups must
            depend on the samples' indices alone, so that they are the same for every variant.
        values: the metric's value of each sample; or the metric of all samples but those of the group.
        counts: how many samples each group has; None where the values are of single samples.
    """

    places: Int[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]
    counts: Int[np.ndarray, " n"] | None = None

    def __attrs_post_init__(self) -> None:
        lengths = {len(self.places), len(self.values)} | ({len(self.counts)} if self.counts is not None else set())
        if len(lengths) > 1:
            raise DataError(
                f"the values of a metric need one place each (and one count, of groups); got {len(self.values)} values"
                f" for {len(self.places)} places"
            )

    @classmethod
    def from_samples(cls, indices: Sequence[int], values: Numbers) -> "SampleValues":
        """Of a mean over samples: the value of each, in any order."""
        order = np.argsort(np.asarray(indices, dtype=np.int64), kind="stable")
        return cls(
            places=np.asarray(indices, dtype=np.int64)[order], values=np.asarray(values, dtype=np.float64)[order]
        )

    @classmethod
    def without_groups(
        cls, groups: Sequence[int], values: Numbers, counts: Sequence[int] | Int[np.ndarray, " g"]
    ) -> "SampleValues | None":
        """Of a metric of a set: what it is without each group, in ascending order of groups; None of fewer than two."""
        if len(groups) < 2:
            return None
        return cls(
            places=np.asarray(groups, dtype=np.int64),
            values=np.asarray(values, dtype=np.float64),
            counts=np.asarray(counts, dtype=np.int64),
        )

    def spread(self, metric: float) -> float | None:
        """Standard deviation of the metric over draws of the samples; None of fewer than two values, or of some
        that are not finite.

        Of a mean, the deviation over bootstrap samples in closed form: that of the values (divisor n) over
        ``sqrt(n)``. Of a set, the jackknife over groups, see ``jackknife_error``.
        """
        if len(self.values) < 2 or not np.isfinite(self.values).all():
            return None
        if self.counts is None:
            return float(np.std(self.values) / math.sqrt(len(self.values)))
        return jackknife_error(metric, self.values, self.counts)


def jackknife_error(metric: float, left_out: Float[np.ndarray, " g"], counts: Int[np.ndarray, " g"]) -> float:
    """Standard error of a metric of a set, from what it is without each of g groups of independent samples.

    The delete-m_j jackknife of Busing, Meijer & van der Leeden (1999, equation 10), for groups that need not be
    equally large: with ``h_j = n / m_j`` and the pseudo-values ``p_j = h_j t - (h_j - 1) t_(j)``, the variance is
    ``1 / g sum_j (p_j - mean)^2 / (h_j - 1)``, where ``mean = sum_j (p_j / h_j)``. Of equal groups it is
    ``(g - 1) / g sum_j (t_(j) - mean t)^2``.
    """
    ratio = counts.sum() / counts
    pseudo = ratio * metric - (ratio - 1) * left_out
    mean = (pseudo / ratio).sum()
    return float(np.sqrt(np.mean((pseudo - mean) ** 2 / (ratio - 1))))
