"""One row for each sample, whatever order and rank it came from."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError


class SampleTable:
    """Columns of numbers by sample, kept on the CPU and ordered by the samples' places in the evaluated set.

    So what is computed from it does not depend on how samples were batched or spread over ranks. Its memory is
    bounded by the number of samples that an evaluator takes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._indices: list[int] = []
        self._parts: dict[str, list[Tensor]] = {}

    def __len__(self) -> int:
        return len(self._indices)

    def add(self, indices: Sequence[int], columns: Mapping[str, Float[Tensor, "n ..."]]) -> None:
        """Adds rows. Raises DataError when a column's rows are not shaped as before."""
        if self._indices and set(columns) != set(self._parts):
            raise DataError(f"{self.name}: rows have columns {sorted(columns)}, earlier ones {sorted(self._parts)}")
        for column, values in columns.items():
            assert len(values) == len(indices), "one row a sample"
            earlier = self._parts.setdefault(column, [])
            if earlier and earlier[0].shape[1:] != values.shape[1:]:
                raise DataError(
                    f"{self.name}: latents of one set must have one shape, got {tuple(values.shape[1:])!r}"
                    f" after {tuple(earlier[0].shape[1:])!r}"
                )
            earlier.append(values.detach().cpu())
        self._indices += indices

    @property
    def indices(self) -> list[int]:
        """The samples' places in the evaluated set, ascending, as the rows of ``columns`` are."""
        return sorted(self._indices)

    def state(self) -> tuple[list[int], dict[str, Tensor]]:
        """What ``merge`` takes."""
        return self._indices, {column: torch.cat(parts) for column, parts in self._parts.items()}

    def merge(self, state: tuple[list[int], dict[str, Tensor]]) -> None:
        """Adds the rows of another table."""
        indices, columns = state
        if indices:
            self.add(indices, columns)

    def columns(self) -> dict[str, Tensor]:
        """All columns, in the order of the samples' places.

        Raises:
            DataError: nothing was added.
        """
        if not self._indices:
            raise DataError(f"no images were evaluated: {self.name} needs at least one")
        order = torch.tensor(self._indices).argsort()
        return {column: torch.cat(parts)[order] for column, parts in self._parts.items()}
