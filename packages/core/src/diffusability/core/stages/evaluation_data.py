"""A fixed sample of a dataset, the same for every variant, without augmentation."""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from diffusability.core.contracts.dataset import Dataset, Example, FilteredExample, UnreadableExample
from diffusability.core.engine.batches import Loader, leave_signals_to_the_run, stacked
from diffusability.core.numerics.seeds import derived_seed


@attrs.frozen(kw_only=True, eq=False)
class EvaluationData:
    """A batch of examples, and the reports of files that could not be read and are missing from it.

    Attributes:
        data: the examples that could be read; None when there are none.
        labels: their classes; None when the data has none.
        unreadable: what to say of the others.
        kept: the place in the batch that was asked for, from 0, of each example that could be read.
    """

    data: Tensor | None
    labels: Tensor | None
    unreadable: Sequence[str]
    kept: Sequence[int]


class _Views(TorchDataset[Example | str | None]):
    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Example | str | None:
        try:
            return self.dataset[index]
        except FilteredExample:
            return None
        except UnreadableExample as error:
            return str(error)


def _collate(items: list[Example | str | None]) -> EvaluationData:
    examples = [item for item in items if isinstance(item, Example)]
    unreadable = [item for item in items if isinstance(item, str)]
    if not examples:
        return EvaluationData(data=None, labels=None, unreadable=unreadable, kept=[])
    data, labels = stacked(examples)
    kept = [place for place, item in enumerate(items) if isinstance(item, Example)]
    return EvaluationData(data=data, labels=labels, unreadable=unreadable, kept=kept)


def fixed_order(dataset: Dataset, count: int) -> list[int]:
    """``count`` distinct indices of a dataset (all of them when there are fewer), in one fixed shuffled order."""
    generator = torch.Generator().manual_seed(derived_seed("evaluation", len(dataset)))
    return dataset.order(generator)[:count].tolist()


def chunk_views(
    dataset: Dataset, chunks: Sequence[Sequence[int]], num_workers: int = 0, pin_memory: bool = False
) -> Iterator[EvaluationData]:
    """The deterministic views of these groups of examples, one batch for each group."""
    loader: Loader[Any] = Loader(
        _Views(dataset),
        batch_sampler=[list(chunk) for chunk in chunks],
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_the_run,
    )
    yield from loader
