"""The contract of a regularizer."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from diffusability.core.contracts.from_spec import FromSpec
from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.shapes import Scalar


class Regularizer(nn.Module, FromSpec, ABC):
    """A further loss term. May own parameters: they are trained and checkpointed with the rest.

    Attributes:
        needs: names of the StepOutput fields that ``forward`` reads.
    """

    needs: frozenset[str] = frozenset()

    @abstractmethod
    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The unweighted term, a mean over the batch. The engine applies the weight and its schedule."""

    def factor(self) -> Tensor | None:
        """A further multiplier of the weight, for weights that adapt; asked after each ``forward``. None for none.

        Detached, at least 0 and equal on all ranks. What it depends on belongs into buffers, which are checkpointed.
        """
        return None
