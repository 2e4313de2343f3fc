"""A mean over samples that arrive in batches, on any number of ranks, with the value of each."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.errors import DataError


class SampleMean:
    """Values by sample, in float64: 16 bytes each. The mean does not depend on the order and the size of batches."""

    def __init__(self) -> None:
        self._indices: list[int] = []
        self._values: list[float] = []

    @property
    def count(self) -> int:
        """Samples seen."""
        return len(self._values)

    def update(self, indices: Sequence[int], values: Float[Tensor, " b"]) -> None:
        """Adds the values of the samples at these places."""
        assert len(indices) == len(values), "one value a sample"
        self._indices += indices
        self._values += values.double().tolist()

    def merge(self, other: "SampleMean") -> None:
        """Adds what another one has seen."""
        self._indices += other._indices
        self._values += other._values

    def compute(self) -> float:
        """The mean. Raises DataError when nothing was added."""
        if not self._values:
            raise DataError("no images were evaluated: a mean needs at least one")
        return math.fsum(self._values) / len(self._values)

    def values(self) -> SampleValues:
        """The values, in the order of the samples' places."""
        return SampleValues.from_samples(self._indices, self._values)

    def spread(self) -> float | None:
        """Standard deviation of the mean over bootstrap samples of the values; None of fewer than two values.

        In closed form: the values' standard deviation (with the divisor n) over ``sqrt(n)``.
        """
        return self.values().spread(self.compute())
