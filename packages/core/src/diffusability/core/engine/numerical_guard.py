"""Keeps a loss or gradient that is not finite away from the weights, on all ranks at once."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.checkpoints.engine_state import persistent_buffers
from diffusability.core.engine.checkpoints.sharded_weights import gathered, local_values
from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.metrics_log import Observed
from diffusability.core.engine.nonfinite_batch import NonfiniteBatch
from diffusability.core.engine.update_gate import Applied, UpdateGate
from diffusability.core.errors import TrainingError


@attrs.frozen(kw_only=True, eq=False)
class _MicroBatch:
    """What is needed to write a micro batch down, should its step turn out broken."""

    batch: Batch
    accumulation: int
    global_seed: int
    names: Sequence[str]
    values: Float[Tensor, " names"]

    def broken(self) -> tuple[str, float] | None:
        """The first of its losses that is not finite, by name, and its value. Waits for the device."""
        values = zip(self.names, self.values.tolist(), strict=True)
        return next(((name, value) for name, value in values if not math.isfinite(value)), None)


@attrs.frozen(kw_only=True)
class _Report:
    """What one rank knows of the first broken step in a row."""

    rank: int
    accumulation: int
    term: str
    value: float
    path: str


@attrs.define(kw_only=True, eq=False)
class NumericalGuard:
    """Skips the update of steps whose loss or gradient is not finite, counts them, and stops after too many in a row.

    It costs no communication: a loss that is not finite is made to give gradients that are not finite, the reduction
    of gradients carries those to all ranks, and the global gradient norm, which is computed anyway, tells every rank.
    Nor does the host wait for the device: it counts a step when its gate tells what became of it.

    Attributes:
        folder: where the batches of a step that stopped training are written.
        ranks: this process among the others.
        gate: decides about each update; it closes after ``max_skipped`` skipped ones in a row, which stop training.
        num_skipped: skipped steps of this stage so far.
        num_in_a_row: skipped steps since the last update.
        on_first: told, on all ranks, of the first skipped step in a sentence, and of the first one after a resumption.
        example_at: the number in the dataset of the sample at a step and a position of the global batch, for that
            sentence.
    """

    folder: Path
    ranks: Ranks
    gate: UpdateGate
    num_skipped: int = 0
    num_in_a_row: int = 0
    on_first: Callable[[str], None] = lambda sentence: None
    example_at: Callable[[int, int], int] | None = None
    _was_told: bool = False
    _step: int = 0
    _micro_batches: list[_MicroBatch] = attrs.field(factory=list)
    _ended: deque[tuple[int, list[_MicroBatch]]] = attrs.field(factory=deque)
    _first_broken: tuple[int, list[_MicroBatch]] | None = None

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"num_skipped": self.num_skipped, "num_in_a_row": self.num_in_a_row}

    def load(self, state: Mapping[str, int]) -> None:
        """Goes on from a checkpoint."""
        self.num_skipped, self.num_in_a_row = state["num_skipped"], state["num_in_a_row"]
        self.gate.start(self.num_in_a_row)

    def begin(self, step: int) -> None:
        """A new step begins, at which no micro batch was seen yet."""
        self._step = step
        self._micro_batches = []

    def watched(self, loss: Tensor, observed: Observed, num_losses: int, batch: Batch, global_seed: int) -> Tensor:
        """The loss to run backward from: as it is, or poisoned when it or one of its terms is not finite.

        The first ``num_losses`` numbers of ``observed`` are the losses.
        """
        losses = observed.values[:num_losses]
        self._micro_batches.append(
            _MicroBatch(
                batch=batch,
                accumulation=len(self._micro_batches),
                global_seed=global_seed,
                names=observed.names[:num_losses],
                values=losses,
            )
        )
        # A term may be infinite and its gradient not, or its weight 0: NaN times any gradient is NaN.
        return loss * torch.where(losses.isfinite().all(), 1.0, math.nan)

    def end(self, engine: Any) -> Applied:
        """The update of a step has ended; whether it changed the weights, the same on all ranks.

        Raises:
            TrainingError: too many steps in a row were skipped.
        """
        applied = self.gate.after_update(engine)
        self._ended.append((self._step, self._micro_batches))
        self.settle(engine, wait=False)
        return applied

    def settle(self, engine: Any, wait: bool = True) -> None:
        """Counts the steps whose fate is known by now; all that have ended, when told to wait for the device.

        Raises:
            TrainingError: too many steps in a row were skipped.
        """
        for applied in self.gate.known(wait):
            step, micro_batches = self._ended.popleft()
            if applied:
                self.num_in_a_row = 0
                self._first_broken = None
            else:
                self._count_skipped(engine, step, micro_batches)

    def _count_skipped(self, engine: Any, step: int, micro_batches: list[_MicroBatch]) -> None:
        self.num_skipped += 1
        self.num_in_a_row += 1
        if self._first_broken is None:
            self._first_broken = (step, micro_batches)
        if not self._was_told:
            self._was_told = True
            self.on_first(self._first_sentence(step, micro_batches))
        if self.num_in_a_row >= self.gate.max_skipped:
            self._stop(engine.module)

    def _first_sentence(self, step: int, micro_batches: list[_MicroBatch]) -> str:
        """What broke in a step, where, and in which samples. All ranks must call it."""
        broken = [
            (micro_batch.accumulation, self.ranks.rank, *blame, _suspects(micro_batch))
            for micro_batch in micro_batches
            if (blame := micro_batch.broken()) is not None
        ]
        by_order = sorted(
            (report for reports in self.ranks.gathered(broken) for report in reports), key=lambda r: r[:2]
        )
        if not by_order:
            what = "its gradient was not finite, and no loss term is to blame"
        else:
            _, rank, term, value, (positions, are_bad) = by_order[0]
            known = self.example_at
            numbers = [str(position if known is None else known(step, position)) for position in positions]
            noun = "places in the batch" if known is None else "examples"
            kind = f", whose data are not finite: {noun}" if are_bad else f" among {noun}"
            what = f"loss term {term!r} became {value} on rank {rank}{kind} {', '.join(numbers)}"
        return (
            f"step {step} was skipped: {what}; the weights stay as they are, num_skipped counts such steps, and"
            f" {self.gate.max_skipped} in a row stop training (max_skipped)"
        )

    def _stop(self, module: nn.Module) -> None:
        """Writes what is needed to repeat the first broken step, and raises. The weights are still those it had."""
        assert self._first_broken is not None
        step, micro_batches = self._first_broken
        weights = self.folder / f"step-{step:08d}-weights.safetensors"
        if self.ranks.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
        whole = gathered(module, local_values(module), self.ranks)  # a collective call: the folder exists after it
        self.ranks.barrier()
        if self.ranks.is_main:
            buffers = {name: value.cpu().contiguous() for name, value in persistent_buffers(module).items()}
            save_file(whole | buffers, weights)
        first = _first_of(self.ranks.gathered(self._written(micro_batches, weights)))
        is_loss = first.term != "gradient"
        what = f"loss term {first.term!r} became {first.value}" if is_loss else "the gradient was not finite"
        raise TrainingError(
            f"{what} at step {step} on rank {first.rank}, and {self.num_in_a_row} steps in a row had to be skipped"
            f" (max_skipped {self.gate.max_skipped}); the weights are as before them, and the batch to repeat it with"
            f" is {first.path!r}; a lower learning rate or a gradient_clip often helps"
        )

    def _written(self, micro_batches: list[_MicroBatch], weights: Path) -> list[_Report]:
        """Writes this rank's broken micro batches, or all when the losses of all ranks were finite."""
        broken = {micro_batch.accumulation: micro_batch.broken() for micro_batch in micro_batches}
        if self.ranks.any(any(blame is not None for blame in broken.values())):
            micro_batches = [micro_batch for micro_batch in micro_batches if broken[micro_batch.accumulation]]
        reports = []
        for micro_batch in micro_batches:
            term, value = broken[micro_batch.accumulation] or ("gradient", math.nan)
            saved = NonfiniteBatch(
                batch=micro_batch.batch,
                rank=self.ranks.rank,
                accumulation=micro_batch.accumulation,
                term=term,
                value=value,
                global_seed=micro_batch.global_seed,
                weights=weights,
            )
            path = str(saved.write(self.folder))
            reports.append(
                _Report(rank=self.ranks.rank, accumulation=micro_batch.accumulation, term=term, value=value, path=path)
            )
        return reports


def _suspects(micro_batch: _MicroBatch) -> tuple[list[int], bool]:
    """Positions of the samples whose data are not finite, and True; where all are finite, all positions, and False."""
    positions = list(micro_batch.batch.randomness.positions)
    finite = micro_batch.batch.data.isfinite().flatten(1).all(1).tolist()
    bad = [position for position, is_finite in zip(positions, finite, strict=True) if not is_finite]
    return (bad, True) if bad else (positions, False)


def _first_of(reports_by_rank: list[list[_Report]]) -> _Report:
    """The micro batch that broke first."""
    reports = [report for reports in reports_by_rank for report in reports]
    return min(reports, key=lambda report: (report.accumulation, report.rank))
