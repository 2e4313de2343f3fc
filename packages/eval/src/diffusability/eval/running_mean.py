"""A mean over values that arrive in batches, on any number of ranks."""

import math

from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError


class RunningMean:
    """Sums and count in float64, so that the order and the size of batches do not matter."""

    def __init__(self) -> None:
        self.sum = 0.0
        self.sum_of_squares = 0.0
        self.count = 0

    def update(self, values: Float[Tensor, "..."]) -> None:
        """Adds every element."""
        exact = values.double()
        self.sum += exact.sum().item()
        self.sum_of_squares += exact.square().sum().item()
        self.count += values.numel()

    def merge(self, other: "RunningMean") -> None:
        """Adds what another one has seen."""
        self.sum += other.sum
        self.sum_of_squares += other.sum_of_squares
        self.count += other.count

    def compute(self) -> float:
        """The mean. Raises DataError when nothing was added."""
        if self.count == 0:
            raise DataError("no images were evaluated: a mean needs at least one")
        return self.sum / self.count

    def spread(self) -> float | None:
        """Standard deviation of the mean over bootstrap samples of the values; None of fewer than two values.

        In closed form: the values' standard deviation (with the divisor n) over ``sqrt(n)``.
        """
        if self.count < 2:
            return None
        variance = self.sum_of_squares / self.count - (self.sum / self.count) ** 2
        return math.sqrt(max(variance, 0.0) / self.count)
