"""Streams batches through evaluators, on all ranks, and merges what they have seen."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import torch
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import DiffusabilityError
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.specs.evaluation_fields import MODELS
from diffusability.core.stages.evaluation_results import Settings, described
from diffusability.core.stages.evaluation_source import EvaluationSource, Made, Portion

T = TypeVar("T")


@attrs.define(eq=False)
class _Fed:
    """An evaluator, how many samples of the set, from the first, it takes, and its spec if it has results."""

    evaluator: Evaluator
    takes: int
    spec: EvaluatorSpec | None


@attrs.frozen(kw_only=True, eq=False)
class Round:
    """What the ranks have done since the last one.

    Attributes:
        done: samples that have been dealt with, on all ranks together.
        total: samples that there are to deal with.
        unreadable: reports of images that could not be read.
    """

    done: int
    total: int
    unreadable: Sequence[str]


@attrs.frozen(kw_only=True, eq=False)
class Evaluation:
    """Results, and the evaluators that can draw figures of them; both are empty on all ranks but the first."""

    results: Sequence[EvalResult]
    evaluators: Sequence[Evaluator]


@attrs.frozen(kw_only=True, eq=False)
class _Report:
    """What one rank tells the others after a round."""

    error: DiffusabilityError | None
    done: int
    unreadable: Sequence[str]
    travelling: EvaluationBatch | None


@torch.no_grad()
def evaluate(
    specs: Sequence[EvaluatorSpec],
    build: Callable[[EvaluatorSpec], Evaluator],
    source: EvaluationSource,
    ranks: Ranks,
    *,
    batch_size: int = 64,
    settings: Settings = lambda needs: {},
    others: Sequence[tuple[Evaluator, int]] = (),
    on_round: Callable[[Round], None] = lambda done: None,
    on_fewer: Callable[[Sequence[EvaluatorSpec], int], None] = lambda specs, there: None,
) -> Evaluation:
    """Evaluates on all ranks, each on its share of the batches. All ranks must call it.

    The batches are the same on any number of ranks: rank r of n takes batches r, r + n, r + 2 n and so on.

    Args:
        specs: the evaluators, each with its number of samples.
        build: makes one of them.
        source: makes the batches.
        ranks: this process among the others.
        batch_size: samples in a batch.
        settings: what numbers depend on beside their evaluator's spec, such as the sampler; added to their ``spec``.
        others: further evaluators, with how many samples they take, that see what is made for ``specs`` anyway.
        on_round: called on all ranks after each round, on the first with the reports of all; may raise on all.
        on_fewer: called at the start with the evaluators of real images that ask for more than there are, and how many
            there are.

    Raises:
        DiffusabilityError: what one rank has raised, on all of them.
    """
    fed = [_fed(build(spec), spec, source) for spec in specs]
    short = [member.spec for member in fed if member.spec is not None and member.takes < member.spec.num_samples]
    if short:
        on_fewer(short, len(source.dataset))
    for member in fed:
        member.evaluator.expect(member.takes)
    for evaluator, takes in others:
        most = max((member.takes for member in fed if evaluator.needs <= member.evaluator.needs), default=0)
        fed += [_Fed(evaluator, min(takes, most), None)] if min(takes, most) else []
    portions = _portions(fed, batch_size)
    own = portions[ranks.rank :: ranks.size]
    made = source.batches(own)
    total, done = sum(len(portion.indices) for portion in portions), 0
    for number in range(math.ceil(len(portions) / ranks.size)):
        report = _one_round(made, own[number] if number < len(own) else None, fed, ranks)
        reports = ranks.gathered(report)
        errors = [report.error for report in reports if report.error is not None]
        if errors:
            raise errors[0]
        travelling = [report.travelling for report in reports if report.travelling is not None]
        if travelling:
            _together(ranks, partial(_update_first_rank, travelling, fed, source, ranks))
        done += sum(report.done for report in reports)
        unreadable = [text for report in reports for text in report.unreadable]
        on_round(Round(done=done, total=total, unreadable=unreadable))
    return _together(ranks, partial(_finish, fed, ranks, settings))


def _fed(evaluator: Evaluator, spec: EvaluatorSpec, source: EvaluationSource) -> _Fed:
    return _Fed(evaluator, source.num_samples(evaluator.needs, spec.num_samples), spec)


def _portions(fed: Sequence[_Fed], batch_size: int) -> list[Portion]:
    """Batches that end where an evaluator has seen enough, so that each takes whole ones."""
    portions = []
    start = 0
    for stop in sorted({member.takes for member in fed}):
        needs = frozenset[str]().union(*(member.evaluator.needs for member in fed if member.takes >= stop))
        portions += [
            Portion(indices=range(first, min(first + batch_size, stop)), needs=needs)
            for first in range(start, stop, batch_size)
        ]
        start = stop
    return portions


def _one_round(made: Iterator[Made], portion: Portion | None, fed: Sequence[_Fed], ranks: Ranks) -> _Report:
    """Makes this rank's next batch and gives it to the evaluators that run here. An error is for all ranks to raise."""
    if portion is None:
        return _Report(error=None, done=0, unreadable=(), travelling=None)
    try:
        current = next(made)
        travels: frozenset[str] = frozenset()
        for taker in fed:
            if current.batch is None or portion.indices.stop > taker.takes:
                continue
            if ranks.size == 1 or taker.evaluator.can_merge:
                taker.evaluator.update(current.batch)
            else:
                travels |= taker.evaluator.needs
        travelling = _packed(current.batch, travels) if current.batch is not None and travels else None
    except DiffusabilityError as error:
        return _Report(error=error, done=0, unreadable=(), travelling=None)
    return _Report(error=None, done=len(portion.indices), unreadable=current.unreadable, travelling=travelling)


def _packed(batch: EvaluationBatch, fields: frozenset[str]) -> EvaluationBatch:
    """These fields of a batch, on the CPU, without models. Labels go along where there are some."""
    names = sorted((fields | {"labels"}) - MODELS)
    values = {name: _moved(getattr(batch, name), torch.device("cpu")) for name in names}
    return EvaluationBatch(indices=batch.indices, **values)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Posterior):
        return Posterior(mean=_moved(value.mean, device), logvar=_moved(value.logvar, device))
    return value.to(device) if isinstance(value, Tensor) else value


def _update_first_rank(
    batches: Sequence[EvaluationBatch], fed: Sequence[_Fed], source: EvaluationSource, ranks: Ranks
) -> None:
    """Gives the batches of all ranks to the evaluators that do not merge."""
    if not ranks.is_main:
        return
    for batch in batches:
        values = {name: _moved(value, ranks.device) for name, value in attrs.asdict(batch, recurse=False).items()}
        for member in fed:
            if not member.evaluator.can_merge and batch.indices[-1] < member.takes:
                models = {name: _model(source, name) for name in member.evaluator.needs & MODELS}
                member.evaluator.update(EvaluationBatch(**(values | models)))


def _model(source: EvaluationSource, name: str) -> Any:
    if name == "autoencoder":
        return source.autoencoder
    return source.generator.model if name == "diffusion_model" else source.generator.sampler


def _finish(fed: Sequence[_Fed], ranks: Ranks, settings: Settings) -> Evaluation:
    """Brings together on the first rank what all have seen, and computes there."""
    for member in fed:
        if member.evaluator.can_merge:
            _merge(member.evaluator, ranks)
    if not ranks.is_main:
        return Evaluation(results=[], evaluators=[])
    results = [
        described(result, member.spec, settings(member.evaluator.needs))
        for member in fed
        if member.spec is not None
        for result in member.evaluator.compute()
    ]
    return Evaluation(results=results, evaluators=[member.evaluator for member in fed])


def _merge(evaluator: Evaluator, ranks: Ranks) -> None:
    """Merges the other ranks' states on the first one, in order. An error must not keep others from handing over."""
    error: DiffusabilityError | None = None
    for source in range(1, ranks.size):
        state = ranks.handed_over(evaluator.state() if ranks.rank == source else None, source)
        if ranks.is_main and error is None:
            try:
                evaluator.merge(state)
            except DiffusabilityError as raised:
                error = raised
    if error is not None:
        raise error


def _together(ranks: Ranks, work: Callable[[], T]) -> T:
    """Does work on all ranks; what one of them raises, all raise."""
    try:
        outcome: T | DiffusabilityError = work()
    except DiffusabilityError as error:
        outcome = error
    raised = ranks.gathered(outcome if isinstance(outcome, DiffusabilityError) else None)
    for failure in raised:
        if failure is not None:
            raise failure
    assert not isinstance(outcome, DiffusabilityError)
    return outcome
