"""The contract of a dataset."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import Split


@attrs.frozen(kw_only=True, eq=False)
class Example:
    """One image or clip in [-1, 1], or raw latents, with its label."""

    data: Float[Tensor, "c *t h w"]
    label: int | None = None


class UnreadableExample(Exception):
    """Raised by ``Dataset.load`` for an example whose file cannot be read. Names the file and the reason."""


class FilteredExample(UnreadableExample):
    """Raised by ``Dataset.load`` for an example that the spec's filters leave out. Replaced without a report."""


class Dataset(ABC):
    """Examples by index. What is random about one (crop, flip, posterior noise) comes from the generator it is given.

    Attributes:
        num_classes: number of labels, or None when examples have none.
        class_names: their names, or None.
        normalizer: for latents, the normaliser that goes with them.
        max_unreadable_share: training stops when a larger share of the examples turns out to be unreadable.
        notes: sentences for the user when the set is opened, such as how many files were left out.
    """

    num_classes: int | None = None
    class_names: Sequence[str] | None = None
    normalizer: LatentNormalizer | None = None
    max_unreadable_share: float = 0.1
    notes: Sequence[str] = ()

    @classmethod
    def from_spec(cls, spec: Any, context: BuildContext, split: Split) -> "Dataset":
        """Opens one split of what a spec describes; by default ``cls(spec, split)``."""
        return cls(spec, split)  # type: ignore[call-arg]

    @abstractmethod
    def __len__(self) -> int:
        """Number of distinct examples; one epoch."""

    def order(self, generator: torch.Generator) -> Int[Tensor, " n"]:
        """All indices, each once, in the random order of an epoch; a function of the generator alone.

        Sets that can only be read shard by shard keep the examples of a shard together.
        """
        return torch.randperm(len(self), generator=generator)

    @abstractmethod
    def load(self, index: int, generator: torch.Generator | None) -> Example:
        """One example. Without a generator, its one deterministic view (centre crop, no flip, posterior mean).

        Raises:
            UnreadableExample: its file is corrupt. The engine reports it by name, counts it and takes another example.
        """

    def __getitem__(self, index: int) -> Example:
        return self.load(index, None)
