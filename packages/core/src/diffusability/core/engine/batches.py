"""Batches whose content depends on the seed and the step alone, not on the number of ranks or workers."""

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import attrs
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from diffusability.core.contracts.dataset import Dataset, Example, FilteredExample, UnreadableExample
from diffusability.core.contracts.objective import Batch
from diffusability.core.errors import DataError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.numerics.seeds import derived_seed

T = TypeVar("T")


def leave_signals_to_the_run(worker: int) -> None:
    """For a loading process at its start: signals that ask a run to save and stop must not end what it still needs.

    Ctrl-C, and commands such as ``timeout``, signal the whole process group, which this process therefore leaves.
    SIGINT and SIGUSR1 are ignored besides, as SLURM sends them to all processes of a step. SIGTERM is not: it is how
    the run ends a loading process that hangs. Should the run itself be killed, torch's watchdog ends its loading
    processes.

    Args:
        worker: the process's number.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


#: Examples that may turn out unreadable one after the other before loading gives up.
MAX_ATTEMPTS = 100


@attrs.frozen(kw_only=True)
class BatchPlan:
    """How the global batch of each step is cut into micro batches.

    Attributes:
        seed: seed of the stage.
        batch_size: samples per optimizer step over all ranks.
        micro_batch_size: samples per rank and forward pass.
        rank: this rank.
        num_ranks: all ranks.
    """

    seed: int
    batch_size: int
    micro_batch_size: int
    rank: int
    num_ranks: int

    @property
    def accumulation_steps(self) -> int:
        """Forward passes per optimizer step on each rank."""
        return self.batch_size // (self.micro_batch_size * self.num_ranks)

    def positions(self, accumulation: int) -> range:
        """Places in the global batch of this rank's samples in one of its micro batches."""
        first = (accumulation * self.num_ranks + self.rank) * self.micro_batch_size
        return range(first, first + self.micro_batch_size)


@attrs.frozen
class Place:
    """A sample's place in training: which step, and which position in its global batch."""

    step: int
    position: int


@attrs.frozen(kw_only=True, eq=False)
class LoadedBatch:
    """A micro batch with the reports of files that could not be read for it."""

    batch: Batch
    unreadable: Sequence[str]


class _PlacedExamples(TorchDataset[tuple[Place, Example, list[str]]]):
    """Examples by place: each epoch is one permutation, and a place's augmentation has its own stream."""

    def __init__(self, dataset: Dataset, seed: int, batch_size: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.batch_size = batch_size
        self._orders: dict[int, torch.Tensor] = {}

    def _order(self, epoch: int) -> torch.Tensor:
        """The order of an epoch. Two are kept: a batch may lie across the end of one."""
        if epoch not in self._orders:
            if len(self._orders) == 2:
                del self._orders[min(self._orders)]
            generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", epoch))
            self._orders[epoch] = self.dataset.order(generator)
        return self._orders[epoch]

    def index(self, place: Place) -> int:
        """The number in the dataset of what is to be at a place."""
        epoch, rest = divmod(place.step * self.batch_size + place.position, len(self.dataset))
        return int(self._order(epoch)[rest])

    def __getitem__(self, place: Place) -> tuple[Place, Example, list[str]]:
        index = self.index(place)
        unreadable: list[str] = []
        reason = ""
        for attempt in range(MAX_ATTEMPTS):
            stream = derived_seed(self.seed, "augmentation", place.step, place.position, attempt)
            try:
                example = self.dataset.load(index, torch.Generator().manual_seed(stream))
            except UnreadableExample as error:
                reason = str(error)
                if not isinstance(error, FilteredExample):
                    unreadable.append(reason)
                index = derived_seed(stream, "instead") % len(self.dataset)
            else:
                return place, example, unreadable
        raise DataError(f"{MAX_ATTEMPTS} examples in a row cannot be used; the last: {reason}")


def example_index(dataset: Dataset, seed: int, batch_size: int, step: int, position: int) -> int:
    """The number in the dataset of the sample at a position of the global batch of a step.

    Where it could not be read, another took its place.
    """
    return _PlacedExamples(dataset, seed, batch_size).index(Place(step, position))


def stacked(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Data and labels of examples as tensors. Raises DataError when shapes differ."""
    shapes = {tuple(example.data.shape) for example in examples}
    if len(shapes) > 1:
        raise DataError(f"examples of different shapes cannot form a batch: {', '.join(map(str, sorted(shapes)))}")
    labels = [example.label for example in examples]
    data = torch.stack([example.data for example in examples])
    return data, None if None in labels else torch.tensor(labels)


class _Collate:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, items: list[tuple[Place, Example, list[str]]]) -> LoadedBatch:
        places, examples, unreadable = zip(*items, strict=True)
        data, labels = stacked(examples)
        positions = [place.position for place in places]
        randomness = BatchRandomness(seed=self.seed, step=places[0].step, positions=positions)
        return LoadedBatch(
            batch=Batch(data=data, labels=labels, randomness=randomness),
            unreadable=[report for reports in unreadable for report in reports],
        )


class _MicroBatches:
    """The places of each micro batch, in the order in which this rank trains on them."""

    def __init__(self, plan: BatchPlan, first_step: int, last_step: int) -> None:
        self.plan = plan
        self.steps = range(first_step, last_step)

    def __len__(self) -> int:
        return len(self.steps) * self.plan.accumulation_steps

    def __iter__(self) -> Iterator[list[Place]]:
        for step in self.steps:
            for accumulation in range(self.plan.accumulation_steps):
                yield [Place(step, position) for position in self.plan.positions(accumulation)]


#: Seconds that a lost connection to a loading process waits for the news of its death.
NEWS_OF_A_DEATH = 5.0


class Loader(DataLoader[T]):
    """A DataLoader that says which loading process died, also when its death is first seen as a lost connection.

    A process that is killed while it hands over a batch resets the connection a moment before torch learns of its
    death by a signal.
    """

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        """The batches in order."""
        loaded = super().__iter__()
        while True:
            try:
                batch = next(loaded)
            except StopIteration:
                return
            except (ConnectionError, EOFError):
                _wait_for_news_of_a_death()
                raise
            yield batch


def _wait_for_news_of_a_death() -> None:
    """Raises torch's RuntimeError as soon as it knows that a loading process died."""
    deadline = time.monotonic() + NEWS_OF_A_DEATH
    while time.monotonic() < deadline:
        torch._C._error_if_any_worker_fails()
        time.sleep(0.01)


def batches(
    dataset: Dataset, plan: BatchPlan, first_step: int, last_step: int, num_workers: int = 0, pin_memory: bool = False
) -> Loader[LoadedBatch]:
    """This rank's micro batches of the steps from ``first_step`` to before ``last_step``, in order."""
    return Loader(
        _PlacedExamples(dataset, plan.seed, plan.batch_size),  # type: ignore[arg-type]
        batch_sampler=_MicroBatches(plan, first_step, last_step),
        num_workers=num_workers,
        collate_fn=_Collate(plan.seed),
        pin_memory=pin_memory,
        persistent_workers=False,
        worker_init_fn=leave_signals_to_the_run,
    )


@contextmanager
def naming_dead_workers() -> Iterator[None]:
    """Turns the death of a loading process into a DataError. It may surface anywhere, as torch learns by a signal."""
    try:
        yield
    except RuntimeError as error:
        match = re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)(.*)", str(error))
        if match is None:
            raise
        how = match[2].strip(" .") or "exited unexpectedly"
        raise DataError(
            f"a data loading process (pid {match[1]}) died: it {how}; often memory has run out, then a smaller"
            " data.num_workers helps; the same command resumes from the last checkpoint"
        ) from error


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device, images with channels last."""
    data = batch.data.to(device, non_blocking=True)
    if data.ndim == 4:
        data = data.contiguous(memory_format=torch.channels_last)
    labels = batch.labels.to(device, non_blocking=True) if batch.labels is not None else None
    return attrs.evolve(batch, data=data, labels=labels)
