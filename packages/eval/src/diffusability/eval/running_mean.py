"""A mean over values that arrive in batches."""

from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError


class RunningMean:
    """Sum and count in float64, so that the order and the size of batches do not matter."""

    def __init__(self) -> None:
        self.sum = 0.0
        self.count = 0

    def update(self, values: Float[Tensor, "..."]) -> None:
        """Adds every element."""
        self.sum += values.double().sum().item()
        self.count += values.numel()

    def compute(self) -> float:
        """The mean. Raises DataError when nothing was added."""
        if self.count == 0:
            raise DataError("no images were evaluated: a mean needs at least one")
        return self.sum / self.count
