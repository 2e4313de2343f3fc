"""Evaluation over ranks. Ranks are threads here that meet where processes would; real processes are in integration."""

import json
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
import pytest
import torch
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.dataset import Dataset, Example, UnreadableExample
from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import DataError, NotFiniteError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.run.folder_writer import write_json
from diffusability.core.sampling.generation import ImageGenerator
from diffusability.core.scoring.scorecard_table import scorecard_notes
from diffusability.core.specs.build_context import AutoencoderInfo
from diffusability.core.specs.components import DenoiserSpec, EvaluatorSpec
from diffusability.core.stages.evaluation_data import fixed_order
from diffusability.core.stages.evaluation_results import notes, results_json, settings_of_samples
from diffusability.core.stages.evaluation_rounds import Evaluation, Round, evaluate
from diffusability.core.stages.evaluation_source import EvaluationSource, Portion

T = TypeVar("T")


class Meeting:
    """Where the threads of one group exchange values."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.values: list[Any] = [None] * size
        self.handed: list[queue.Queue[Any]] = [queue.Queue() for _ in range(size)]


@attrs.frozen(kw_only=True)
class ThreadRanks(Ranks):
    """A rank that is a thread."""

    meeting: Meeting

    def gathered(self, value: T) -> list[T]:
        self.meeting.values[self.rank] = value
        self.meeting.barrier.wait()
        values = list(self.meeting.values)
        self.meeting.barrier.wait()
        return values

    def handed_over(self, value: T | None, source: int) -> T | None:
        if self.rank == source:
            self.meeting.handed[source].put(value)
        return self.meeting.handed[source].get(timeout=60) if self.is_main else None


class Numbers(Dataset):
    """Image k is the number k everywhere; its label is k modulo 3; some cannot be read."""

    max_unreadable_share = 1.0

    def __init__(self, size: int, unreadable: Sequence[int] = (), labelled: bool = True) -> None:
        self.size = size
        self.unreadable = unreadable
        self.labelled = labelled

    def __len__(self) -> int:
        return self.size

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        if index in self.unreadable:
            raise UnreadableExample(f"image {index} is broken")
        return Example(data=torch.full((1, 4, 4), float(index)), label=index % 3 if self.labelled else None)


class Halving(Autoencoder):
    """Latents are half the images; counts its calls."""

    info = AutoencoderInfo(latent_channels=1, spatial_factor=1, image_channels=1)

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def encode(self, images: Tensor) -> Posterior:
        self.calls.append("encode")
        return Posterior(mean=images / 2)

    def decode(self, latents: Tensor) -> Tensor:
        self.calls.append("decode")
        return latents * 2


class Breaking(Halving):
    """Gives one number that is not finite, for image 3, in what one of its methods makes."""

    def __init__(self, method: str, bad: float) -> None:
        super().__init__()
        self.method, self.bad = method, bad

    def encode(self, images: Tensor) -> Posterior:
        posterior = super().encode(images)
        if self.method != "decode":
            posterior.mean[images[:, 0, 0, 0] == 3, 0, 1, 1] = self.bad
        return posterior

    def decode(self, latents: Tensor) -> Tensor:
        decoded = super().decode(latents)
        if self.method == "decode":
            decoded[latents[:, 0, 0, 0] == 1.5, 0, 1, 1] = self.bad
        return decoded


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("method", "what"), [("encode", "posterior means"), ("decode", "reconstructions")])
def test_numbers_that_are_not_finite_reach_no_evaluator(method: str, what: str, bad: float) -> None:
    """The sample is named; infinity is not hidden by the clamp to [-1, 1]."""
    broken = Breaking(method, bad)
    source = EvaluationSource(
        dataset=Numbers(5), device=torch.device("cpu"), make_autoencoder=lambda: broken, make_generator=None
    )
    order = fixed_order(Numbers(5), 5)
    with pytest.raises(NotFiniteError, match=rf"sample {order.index(3)} are not finite \(1 of \d+ values"):
        list(source.batches([Portion(indices=range(5), needs=frozenset({"latents", "reconstruction"}))]))


@pytest.mark.parametrize("field", ["images", "latents", "reconstruction", "generated"])
def test_a_batch_that_is_not_finite_cannot_be_made(field: str) -> None:
    """Also in Python use, where no stage is between a model and an evaluator."""
    values = torch.zeros(3, 1, 4, 4)
    values[1, 0, 2, 2] = float("nan")
    with pytest.raises(NotFiniteError, match=r"of sample 7 are not finite \(1 of 48 values are NaN or infinite\)"):
        EvaluationBatch(indices=[5, 7, 9], **{field: values})
    with pytest.raises(NotFiniteError, match="log variances of sample 7"):
        EvaluationBatch(indices=[5, 7, 9], posterior=Posterior(mean=torch.zeros_like(values), logvar=values))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_result_that_is_not_finite_cannot_be_made(bad: float) -> None:
    """What an evaluator computes by itself, such as a decoding of changed latents, is held to the same."""
    with pytest.raises(NotFiniteError, match=f"metric 'psnr' has the value {bad!r}"):
        EvalResult(metric="psnr", num_samples=1, value=bad)
    with pytest.raises(NotFiniteError, match="metric 'psnr' has the spread"):
        EvalResult(metric="psnr", num_samples=1, value=1.0, spread=bad)
    with pytest.raises(NotFiniteError, match="metric 'c_curve' has the point of the curve"):
        EvalResult(metric="c_curve", num_samples=1, curve=Curve(x=[0.0, 1.0], y=[1.0, bad], x_label="x"))


def test_json_is_written_without_words_that_it_has_not(tmp_path: Path) -> None:
    """Browsers do not parse NaN; the file that was there stays."""
    write_json(tmp_path / "results.json", {"psnr": 1.0})
    with pytest.raises(NotFiniteError, match=r"results.json' is not written"):
        write_json(tmp_path / "results.json", {"psnr": float("nan")})
    assert json.loads((tmp_path / "results.json").read_text()) == {"psnr": 1.0}


def test_notes_are_in_the_results_and_below_the_scorecard() -> None:
    results = [
        EvalResult(metric=name, num_samples=2, value=1.0, note=note)
        for name, note in (
            ("viv", "2 of 5 latent channels are constant: left out; few samples"),
            ("sec", "2 of 5 latent channels are constant: left out"),
            ("psnr", ""),
        )
    ]
    content = results_json(results)
    assert "note" not in content["psnr"]
    assert scorecard_notes({"mine": content}) == [
        "mine: 2 of 5 latent channels are constant: left out (viv, sec)",
        "mine: few samples (viv)",
    ]
    assert notes(results) == [
        "viv: 2 of 5 latent channels are constant: left out; few samples",
        "sec: 2 of 5 latent channels are constant: left out",
    ]


class Seen(Evaluator):
    """Records, for each index, the mean of a field; merges."""

    def __init__(self, *fields: str) -> None:
        self.needs = frozenset(fields)
        self.rows: dict[int, list[float]] = {}
        self.batches: list[list[int]] = []

    def update(self, batch: EvaluationBatch) -> None:
        self.batches.append(list(batch.indices))
        for row, index in enumerate(batch.indices):
            assert index not in self.rows
            values = [getattr(batch, name) for name in sorted(self.needs) if name != "autoencoder"]
            self.rows[index] = [float(value[row].double().mean()) for value in values]

    def state(self) -> dict[int, list[float]]:
        return self.rows

    def merge(self, state: dict[int, list[float]]) -> None:
        self.rows |= state

    def compute(self) -> list[EvalResult]:
        if not self.rows:
            raise DataError("nothing was seen")
        values = [value for row in self.rows.values() for value in row]
        return [EvalResult(metric="total", value=sum(values), num_samples=len(self.rows), spread=0.5)]


class Unmerged(Seen):
    """The same without merging, as a plugin may be."""

    state = Evaluator.state
    merge = Evaluator.merge


class Failing(Seen):
    """Cannot take the image at one index."""

    def __init__(self, index: int) -> None:
        super().__init__("images")
        self.index = index

    def update(self, batch: EvaluationBatch) -> None:
        super().update(batch)
        if self.index in batch.indices:
            raise DataError(f"index {self.index} is no good")


class SeenSpec(EvaluatorSpec):
    """Stands for any evaluator."""

    kind: Literal["seen"] = "seen"


def source_of(dataset: Dataset, autoencoder: Autoencoder | None = None, seed: int = 0) -> EvaluationSource:
    """Images, an autoencoder and a generator of noise."""
    encoder = autoencoder or Halving()
    model = DiffusionModel(
        denoiser=Nothing(),
        normalizer=LatentNormalizer.identity(1),
        latent_shape=(1, 4, 4),
        num_classes=10,
        spec=DenoiserSpec.model_construct(),
    )
    generator = ImageGenerator(
        model=model,
        sampler=Identity(),
        decode=lambda latents: latents / 10,
        seed=seed,
        device=torch.device("cpu"),
    )
    return EvaluationSource(
        dataset=dataset,
        device=torch.device("cpu"),
        make_autoencoder=lambda: encoder,
        make_generator=lambda _: generator,
    )


class Nothing(Denoiser):
    """Is not asked."""

    def forward(self, latents: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        raise AssertionError("the sampler below does not call it")


class Identity(Sampler):
    """Gives the noise."""

    def sample(
        self, denoiser: Denoiser, noise: Tensor, labels: Tensor | None = None, randomness: BatchRandomness | None = None
    ) -> Tensor:
        return noise


def run(
    size: int,
    make: Callable[[], Sequence[tuple[Evaluator, int]]],
    dataset: Dataset,
    batch_size: int = 4,
    on_round: Callable[[Round], None] = lambda done: None,
) -> tuple[Evaluation, list[list[Evaluator]]]:
    """Evaluates on that many ranks; the first one's evaluation, and every rank's evaluators. An error is raised if all
    ranks raise the same."""
    meeting = Meeting(size)
    outcomes: list[Any] = [None] * size
    made: list[list[Evaluator]] = [[] for _ in range(size)]

    def run_rank(rank: int) -> None:
        ranks = ThreadRanks(rank=rank, size=size, device=torch.device("cpu"), meeting=meeting)
        evaluators = make()
        made[rank] = [evaluator for evaluator, _ in evaluators]
        left = iter(made[rank])
        specs = [SeenSpec(num_samples=count) for _, count in evaluators]
        try:
            outcomes[rank] = evaluate(
                specs, lambda spec: next(left), source_of(dataset), ranks, batch_size=batch_size, on_round=on_round
            )
        except BaseException as error:  # noqa: BLE001
            outcomes[rank] = error
            if not isinstance(error, DataError):
                meeting.barrier.abort()

    threads = [threading.Thread(target=run_rank, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if errors:
        assert len({str(error) for error in errors}) == 1
        assert len(errors) == size
        raise errors[0]
    return outcomes[0], made


@pytest.mark.parametrize("kind", [Seen, Unmerged])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_ranks_see_together_what_one_sees_alone(kind: type[Seen], size: int) -> None:
    """Every sample once, with equal values, over 2, 3 and 8 ranks of 5 batches against one rank; with and without
    merging. Encoded, decoded and generated fields among them."""
    fields = ("images", "labels", "reconstruction", "latents", "generated", "generated_labels")
    alone, (own,) = run(1, lambda: [(kind(*fields), 18)], Numbers(50))
    together, _ = run(size, lambda: [(kind(*fields), 18)], Numbers(50))
    assert isinstance(own[0], Seen)
    assert isinstance(together.evaluators[0], Seen)
    assert together.evaluators[0].rows == own[0].rows
    assert sorted(own[0].rows) == list(range(18))
    assert together.results[0].value == pytest.approx(alone.results[0].value, rel=1e-12)


def test_an_evaluator_without_merge_sees_the_batches_of_a_single_process() -> None:
    """On the first rank, in order; nothing on the others."""
    _, (alone,) = run(1, lambda: [(Unmerged("images"), 18)], Numbers(50))
    _, together = run(3, lambda: [(Unmerged("images"), 18)], Numbers(50))
    batches = [
        [evaluator.batches for evaluator in evaluators if isinstance(evaluator, Unmerged)] for evaluators in together
    ]
    assert isinstance(alone[0], Unmerged)
    assert batches == [[alone[0].batches], [[]], [[]]]


def test_more_ranks_than_samples() -> None:
    """One sample on four ranks: three have nothing to do and nothing to say."""
    evaluation, _ = run(4, lambda: [(Seen("images"), 1)], Numbers(50))
    assert evaluation.results[0].num_samples == 1


def test_each_evaluator_takes_as_many_as_it_asks_for() -> None:
    """Different numbers of samples, and more images than there are, on one and on two ranks."""
    for size in (1, 2):
        evaluation, _ = run(
            size, lambda: [(Seen("images"), 6), (Seen("latents"), 9), (Seen("images"), 100)], Numbers(13)
        )
        assert [result.num_samples for result in evaluation.results] == [6, 9, 13]


def test_generated_samples_are_not_bounded_by_the_images() -> None:
    """Thirty samples where there are five images; where images are needed too, five."""
    evaluation, _ = run(2, lambda: [(Seen("generated"), 30), (Seen("generated", "images"), 30)], Numbers(5))
    assert [result.num_samples for result in evaluation.results] == [30, 5]


def test_what_nobody_needs_is_not_computed() -> None:
    """Images alone: no encoding. Latents: no decoding. Past the samples of an evaluator, not what it alone needs."""
    for fields, calls in ((("images",), []), (("latents",), ["encode"] * 3)):
        autoencoder = Halving()
        source = source_of(Numbers(12), autoencoder)
        ranks = Ranks(rank=0, size=1, device=torch.device("cpu"))
        evaluate([SeenSpec(num_samples=12)], lambda spec, f=fields: Seen(*f), source, ranks, batch_size=4)
        assert autoencoder.calls == calls
    autoencoder = Halving()
    evaluators = iter([Seen("reconstruction"), Seen("images")])
    specs = [SeenSpec(num_samples=4), SeenSpec(num_samples=12)]
    evaluate(specs, lambda spec: next(evaluators), source_of(Numbers(12), autoencoder), ranks, batch_size=4)
    assert autoencoder.calls == ["encode", "decode"]


def test_generated_samples_depend_on_seed_and_place_alone() -> None:
    """The k-th sample in batches of 4 and of 7 and by itself; another seed gives others."""
    source = source_of(Numbers(5))
    whole = source.generator.at(range(28)).images
    for batch_size in (4, 7):
        parts = [source.generator.at(range(first, first + batch_size)).images for first in range(0, 28, batch_size)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)
    torch.testing.assert_close(source.generator.at([13]).images, whole[13:14], rtol=0, atol=0)
    assert (source_of(Numbers(5), seed=1).generator.at(range(28)).images - whole).abs().max() > 0.1


def test_unreadable_images_leave_gaps_and_are_reported_to_all() -> None:
    """Four of ten cannot be read: the others keep their places, on one and on three ranks."""
    for size in (1, 3):
        reports: list[str] = []
        evaluation, _ = run(
            size,
            lambda: [(Seen("images", "generated"), 10)],
            Numbers(10, unreadable=[1, 2, 3, 7]),
            batch_size=2,
            on_round=lambda done, to=reports: to.extend(done.unreadable),  # type: ignore[misc]
        )
        assert isinstance(evaluation.evaluators[0], Seen)
        rows = evaluation.evaluators[0].rows
        assert len(rows) == 6
        assert sorted(reports) == sorted([f"image {index} is broken" for index in (1, 2, 3, 7)] * size)
        whole, _ = run(1, lambda: [(Seen("images", "generated"), 10)], Numbers(10))
        assert isinstance(whole.evaluators[0], Seen)
        assert rows == {index: row for index, row in whole.evaluators[0].rows.items() if index in rows}


def test_an_error_of_one_rank_is_raised_on_all() -> None:
    """In an update on one rank, in an update on the first rank alone, and in computing."""
    for size in (1, 2, 3):
        with pytest.raises(DataError, match="index 5 is no good"):
            run(size, lambda: [(Failing(5), 20)], Numbers(30))
        with pytest.raises(DataError, match="nothing was seen"):
            run(size, lambda: [(Seen("images"), 4)], Numbers(4, unreadable=range(4)))
    with pytest.raises(DataError, match="index 5 is no good"):
        run(2, lambda: [(UnmergedFailing(5), 20)], Numbers(30))


class Unmergeable(Seen):
    """Cannot be merged with anything."""

    def merge(self, state: dict[int, list[float]]) -> None:
        raise DataError("these do not belong together")


def test_an_error_in_merging_is_raised_on_all() -> None:
    """On three ranks, of which the second is merged first; the third hands over nevertheless."""
    with pytest.raises(DataError, match="these do not belong together"):
        run(3, lambda: [(Unmergeable("images"), 20), (Seen("images"), 20)], Numbers(30))


class UnmergedFailing(Failing):
    """Fails on the first rank."""

    state = Evaluator.state
    merge = Evaluator.merge


def test_labels_that_are_needed_must_be_there() -> None:
    """Labels of a dataset without; those of one with are given also to who does not need them."""
    with pytest.raises(DataError, match="needs labels, but this dataset has none"):
        run(2, lambda: [(Seen("labels"), 20)], Numbers(30, labelled=False))
    evaluation, _ = run(1, lambda: [(Seen("images", "labels"), 9)], Numbers(9))
    assert isinstance(evaluation.evaluators[0], Seen)
    assert all(label == image % 3 for image, label in evaluation.evaluators[0].rows.values())


def test_results_say_what_the_samples_were_made_with() -> None:
    """Settings of sampling go to results of generated samples only; a spread is written where there is one."""
    made = iter([Seen("generated"), Seen("images")])
    evaluation = evaluate(
        [SeenSpec(num_samples=4), SeenSpec(num_samples=4)],
        lambda spec: next(made),
        source_of(Numbers(9)),
        Ranks(rank=0, size=1, device=torch.device("cpu")),
        settings=settings_of_samples({"precision": "bf16"}),
    )
    assert [result.spec for result in evaluation.results] == [{"kind": "seen", "precision": "bf16"}, {"kind": "seen"}]
    assert results_json(evaluation.results)["total"]["spread"] == 0.5


def test_held_out_images_are_those_of_the_other_split() -> None:
    """In their own fixed order, beside the real images; fewer of them bound what their evaluator sees."""
    source = attrs.evolve(source_of(Numbers(9)), open_held_out=lambda: Numbers(5))
    both, images = frozenset({"images", "held_out"}), frozenset({"images"})
    assert (source.num_samples(both, 8), source.num_samples(images, 8), source.num_samples(images, 20)) == (5, 8, 9)
    portions = [Portion(indices=range(3), needs=both), Portion(indices=range(3, 5), needs=both)]
    made = list(source.batches([*portions, Portion(indices=range(5, 8), needs=images)]))
    seen = [round(float(value)) for part in made[:2] for value in part.batch.held_out[:, 0, 0, 0]]
    assert seen == fixed_order(Numbers(5), 5)
    assert made[2].batch.held_out is None
    own = [round(float(value)) for part in made for value in part.batch.images[:, 0, 0, 0]]
    assert own == fixed_order(Numbers(9), 9)[:8]
