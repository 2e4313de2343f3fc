"""The evaluate stage, and evaluation inside training."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from diffusability.core.autoencoder import Autoencoder
from diffusability.core.dataset import Dataset
from diffusability.core.errors import DataError
from diffusability.core.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.generation import generate
from diffusability.core.image_grid import save_grid
from diffusability.core.progress import StageProgress
from diffusability.core.sampler import Sampler
from diffusability.core.saved_models import DiffusionModel, build_autoencoder, load_diffusion_model
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.specs.plan import PlannedStage
from diffusability.core.specs.references import StageDenoiserSpec
from diffusability.core.specs.stages import EvaluateStage
from diffusability.core.stages.evaluation_data import fixed_order, views
from diffusability.core.stages.run_folder import write_json
from diffusability.core.stages.surroundings import Surroundings, autocast_dtype, build_sampler
from diffusability.core.stages.unreadable import UnreadableFiles


@attrs.define(eq=False)
class _Fed:
    """An evaluator and how many samples it still takes."""

    evaluator: Evaluator
    spec: EvaluatorSpec
    left: int


def feed(evaluators: Sequence[_Fed], batch: EvaluationBatch, count: int) -> None:
    """Gives every evaluator as much of a batch as it still takes."""
    for fed in evaluators:
        taken = min(fed.left, count)
        if taken == 0:
            continue
        fed.evaluator.update(batch if taken == count else _first(batch, taken))
        fed.left -= taken


def _first(batch: EvaluationBatch, count: int) -> EvaluationBatch:
    posterior = batch.posterior
    if posterior is not None:
        logvar = posterior.logvar
        posterior = attrs.evolve(
            posterior, mean=posterior.mean[:count], logvar=None if logvar is None else logvar[:count]
        )
    tensors = {
        name: value[:count]
        for name in ("images", "latents", "reconstruction", "generated")
        if (value := getattr(batch, name)) is not None
    }
    return attrs.evolve(batch, posterior=posterior, **tensors)


@torch.no_grad()
def autoencoder_batches(autoencoder: Autoencoder, image_batches: Iterable[Images]) -> Iterator[EvaluationBatch]:
    """Encodes and decodes images in float32, from the posterior's mode."""
    for images in image_batches:
        posterior = autoencoder.encode(images)
        latents = posterior.mode()
        yield EvaluationBatch(
            images=images,
            posterior=posterior,
            latents=latents,
            reconstruction=autoencoder.decode(latents).float().clamp(-1, 1),
            autoencoder=autoencoder,
        )


def generation_batches(image_batches: Iterable[Images], generated: Iterator[Images]) -> Iterator[EvaluationBatch]:
    """Pairs batches of real images with as many generated ones."""
    pending: list[Images] = []
    for images in image_batches:
        while sum(map(len, pending)) < len(images):
            pending.append(next(generated))
        joined = torch.cat(pending)
        pending = [joined[len(images) :]]
        yield EvaluationBatch(images=images, generated=joined[: len(images)])


def evaluate(
    specs: Sequence[EvaluatorSpec], build: Callable[[EvaluatorSpec], Evaluator], batches: Iterable[EvaluationBatch]
) -> tuple[list[EvalResult], list[Evaluator]]:
    """Streams batches through evaluators and returns all results."""
    evaluators = [_Fed(build(spec), spec, spec.num_samples) for spec in specs]
    with torch.no_grad():
        for batch in batches:
            assert batch.images is not None
            feed(evaluators, batch, len(batch.images))
        results = [
            attrs.evolve(result, spec={"kind": fed.spec.kind, **result.spec})
            for fed in evaluators
            for result in fed.evaluator.compute()
        ]
    return results, [fed.evaluator for fed in evaluators]


def results_json(results: Sequence[EvalResult]) -> dict[str, Any]:
    """Results in the form of ``results.json``."""
    content: dict[str, Any] = {}
    for result in results:
        entry: dict[str, Any] = (
            {"value": result.value} if result.curve is None else {"curve": attrs.asdict(result.curve)}
        )
        entry |= {"unit": result.unit, "higher_is_better": result.higher_is_better}
        content[result.metric] = entry | {"num_samples": result.num_samples, "spec": result.spec}
    return content


def image_batches(
    dataset: Dataset,
    count: int,
    batch_size: int,
    device: torch.device,
    on_unreadable: Callable[[Sequence[str]], None],
    on_batch: Callable[[int], None],
    num_workers: int = 0,
) -> Iterator[Images]:
    """A fixed sample of a dataset, on the device."""
    done = 0
    for batch in views(dataset, fixed_order(len(dataset), count), batch_size, num_workers):
        on_unreadable(batch.unreadable)
        if batch.data is not None:
            yield batch.data.to(device)
            done += len(batch.data)
        on_batch(done)
    if done == 0:
        raise DataError("no image could be read, so there is nothing to evaluate on")


def run_evaluate(stage: PlannedStage, around: Surroundings, directory: Path) -> None:
    """Evaluates on the first rank, writes ``results.json``, figures and a grid of samples.

    Raises:
        DataError: no image could be read.
    """
    if not around.ranks.is_main:
        return
    spec = stage.spec
    assert isinstance(spec, EvaluateStage)
    context = around.context(stage)
    dataset = stage.data.build(context, spec.resolved_split())
    unreadable = UnreadableFiles(directory, dataset, around.console)
    count = min(len(dataset), max(evaluator.num_samples for evaluator in spec.evaluators))
    with StageProgress(around.console, stage.name, count) as progress:

        def on_batch(done: int) -> None:
            around.stop.raise_if_requested("this stage starts anew")
            progress.update(done)

        images = image_batches(
            dataset, count, spec.batch_size, around.ranks.device, unreadable.report, on_batch, stage.data.num_workers
        )
        if spec.autoencoder is not None:
            autoencoder = around.frozen(build_autoencoder(spec.autoencoder, context))
            batches = autoencoder_batches(autoencoder, images)
        else:
            batches = _with_samples(stage, spec, around, directory, images)
        results, evaluators = evaluate(spec.evaluators, lambda evaluator: evaluator.build(context), batches)
    for evaluator in evaluators:
        evaluator.draw(directory / "figures")
    write_json(directory / "results.json", results_json(results))


def _with_samples(
    stage: PlannedStage, spec: EvaluateStage, around: Surroundings, directory: Path, images: Iterator[Images]
) -> Iterator[EvaluationBatch]:
    """Samples as many images as there are real ones, and draws the first as a grid."""
    assert isinstance(spec.denoiser, StageDenoiserSpec)
    model = load_diffusion_model(around.folder.stage(stage.inputs[spec.denoiser.stage]) / "model")
    sampler = build_sampler(spec.sampler, around.context(stage))
    generated = samples_of(
        model, sampler, around.decoder(stage), stage.seed, spec.batch_size, around.ranks.device, stage.engine.precision
    )
    shown: list[Images] = []
    for batch in generation_batches(images, generated):
        assert batch.generated is not None
        missing = spec.num_preview_images - sum(map(len, shown))
        if missing > 0:
            shown.append(batch.generated[:missing].cpu())
        yield batch
    if shown:
        save_grid(torch.cat(shown), directory / "samples" / "samples.png")


def samples_of(
    model: DiffusionModel,
    sampler: Sampler,
    decode: Callable[[Latents], Images],
    seed: int,
    batch_size: int,
    device: torch.device,
    precision: str,
) -> Iterator[Images]:
    """An endless stream of images from a denoiser."""
    model.denoiser.to(device).eval()
    model.normalizer.to(device)
    return generate(
        model,
        sampler,
        decode,
        num_samples=2**62,
        batch_size=batch_size,
        seed=seed,
        device=device,
        autocast_dtype=autocast_dtype(precision),
    )


def scalar_values(results: Sequence[EvalResult]) -> Mapping[str, float]:
    """The results that are numbers, by metric."""
    return {result.metric: result.value for result in results if result.value is not None}
