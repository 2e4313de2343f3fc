"""The contract of a regularizer."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import nn

from diffusability.core.objective import StepOutput
from diffusability.core.shapes import Scalar

if TYPE_CHECKING:
    from diffusability.core.engine.task import TrainTask


class Regularizer(nn.Module, ABC):
    """A further loss term. May own parameters: they are trained and checkpointed with the rest.

    Attributes:
        needs: names of the StepOutput fields that ``forward`` reads.
    """

    needs: frozenset[str] = frozenset()

    @abstractmethod
    def forward(self, output: StepOutput, task: "TrainTask") -> Scalar:
        """The unweighted term, a mean over the batch. The engine applies the weight and its schedule."""
