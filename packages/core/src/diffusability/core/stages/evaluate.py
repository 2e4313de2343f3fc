"""The evaluate stage."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.data.enlarged import enlarged_images
from diffusability.core.models.saved_models import load_decoder, trained_model
from diffusability.core.numerics.precision import autocast_dtype, resolve_precision
from diffusability.core.planning.check import needs_of
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.run.folder_writer import write_json
from diffusability.core.run.progress import StageProgress
from diffusability.core.run.values_file import VALUES_FILE, write_values
from diffusability.core.sampling.generation import ImageGenerator
from diffusability.core.sampling.sampled_latents import SampledLatents
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import SamplerSpec
from diffusability.core.specs.evaluation_fields import OF_SAMPLERS
from diffusability.core.specs.model_references import SavedDenoiserSpec
from diffusability.core.specs.stages import EvaluateStage, LabelProtocol, SweepSpec
from diffusability.core.stages.evaluation_data import fixed_order
from diffusability.core.stages.evaluation_results import (
    Settings,
    kept_values,
    notes,
    results_json,
    settings_of_autoencoders,
    settings_of_samples,
)
from diffusability.core.stages.evaluation_rounds import Round, evaluate
from diffusability.core.stages.evaluation_source import EvaluationSource
from diffusability.core.stages.image_digests import ImageDigests
from diffusability.core.stages.low_precision import LowPrecision
from diffusability.core.stages.runtime import StageRuntime, build_sampler, default_sampler
from diffusability.core.stages.sample_grid import SampleGrid, draw_real_images
from diffusability.core.stages.sweep import swept_results
from diffusability.core.stages.unreadable import UnreadableFiles


def run_evaluate(stage: PlannedStage, runtime: StageRuntime, directory: Path) -> None:
    """Evaluates on all ranks; the first writes ``results.json``, ``values.npz``, figures and a grid of samples.

    Raises:
        DataError: no image could be read, or too many could not.
        StoppedOnRequest: on all ranks, when a signal asked one of them for it.
    """
    spec = stage.spec
    assert isinstance(spec, EvaluateStage)
    context = runtime.context(stage)
    dataset = runtime.opened(stage, spec.resolved_split())
    unreadable = UnreadableFiles(directory, dataset, runtime.console, writes=runtime.ranks.is_main)
    enlarged = enlarged_images(
        dataset, fixed_order(dataset, max(evaluator.num_samples for evaluator in spec.evaluators))
    )
    if enlarged:
        runtime.remark(stage, enlarged)
    kept = SampledLatents(directory / "sampled-latents")
    source = _source(stage, spec, runtime, dataset, kept)
    grid, digests = SampleGrid(), ImageDigests()
    most = max(evaluator.num_samples for evaluator in spec.evaluators)
    with StageProgress(runtime.console, stage.name, most) as progress:

        def on_round(done: Round) -> None:
            runtime.stop.raise_together(
                runtime.ranks, "samples that were made are kept, the rest of this stage starts again"
            )
            unreadable.report(done.unreadable)
            progress.update(done.done, total=done.total)

        evaluation = evaluate(
            spec.evaluators,
            lambda evaluator: evaluator.build(context),
            source,
            runtime.ranks,
            batch_size=spec.batch_size,
            settings=_settings(stage, spec, runtime.ranks.device.type),
            others=[(grid, spec.num_preview_images), (digests, most)],
            on_round=on_round,
            on_fewer=lambda short, there: runtime.remark_fewer(stage, short, there, spec.resolved_split()),
        )
    swept = [] if spec.sweep is None else _swept(stage, spec, spec.sweep, runtime, source, evaluation.results)
    if runtime.ranks.is_main:
        kept.remove()
        for evaluator in evaluation.evaluators:
            evaluator.draw(directory / ("samples" if evaluator is grid else "figures"))
        if spec.denoiser is not None and spec.num_preview_images and stage.data.holds == "images":
            draw_real_images(dataset, min(spec.num_preview_images, most), directory / "samples")
        results = [*evaluation.results, *swept]
        write_values(directory / VALUES_FILE, kept_values(results, digests.digests))
        for note in notes(results):
            runtime.console.print(f"{stage.name}: {note}", markup=False, highlight=False)
        write_json(directory / "results.json", results_json(results))


def _swept(
    stage: PlannedStage,
    spec: EvaluateStage,
    sweep: SweepSpec,
    runtime: StageRuntime,
    source: EvaluationSource,
    own: Sequence[EvalResult],
) -> Sequence[EvalResult]:
    """Evaluates samples at each value of a sweep; those at the sampler's own value are there already.

    All ranks take part; the first has the results. Samples at a value are kept in a folder of its own until the whole
    stage is done.
    """
    context, sampler = runtime.context(stage), default_sampler(spec.sampler)
    evaluators = [evaluator for evaluator in spec.evaluators if needs_of(evaluator, BuildContext()) & OF_SAMPLERS]
    points: dict[float, Sequence[EvalResult]] = {}
    for value, at_value in sweep.samplers(sampler):
        if at_value == sampler:
            points[value] = own
            continue
        generator, most = source.generator, max(evaluator.num_samples for evaluator in evaluators)
        kept = None if generator.kept is None else SampledLatents(generator.kept.folder / f"{sweep.field}-{value:g}")
        moved = attrs.evolve(generator, sampler=build_sampler(at_value, context), kept=kept)
        with StageProgress(runtime.console, f"{stage.name}, {sweep.field} {value:g}", most) as progress:

            def on_round(done: Round, progress: StageProgress = progress) -> None:
                runtime.stop.raise_together(
                    runtime.ranks, "samples that were made are kept, the rest of this stage starts again"
                )
                progress.update(done.done, total=done.total)

            precision = resolve_precision(stage.engine.precision, runtime.ranks.device.type)
            evaluation = evaluate(
                evaluators,
                lambda evaluator: evaluator.build(context),
                EvaluationSource(
                    dataset=source.dataset,
                    device=source.device,
                    make_autoencoder=lambda: source.autoencoder,
                    make_generator=lambda decoder, moved=moved: moved,  # type: ignore[misc]
                    open_held_out=lambda: source.held_out,
                    num_workers=source.num_workers,
                ),
                runtime.ranks,
                batch_size=spec.batch_size,
                settings=sampling_settings(at_value, precision, spec.labels),
                on_round=on_round,
            )
        points[value] = evaluation.results
    return swept_results(sweep, points) if runtime.ranks.is_main else []


def _source(
    stage: PlannedStage, spec: EvaluateStage, runtime: StageRuntime, dataset: Dataset, kept: SampledLatents
) -> EvaluationSource:
    """What makes the batches: of the autoencoder that the stage evaluates, or of its denoiser."""
    if spec.autoencoder is None:
        return EvaluationSource(
            dataset=dataset,
            device=runtime.ranks.device,
            make_autoencoder=lambda: _decoding_autoencoder(stage, spec, runtime),
            make_generator=lambda decoder: _generator(stage, spec, runtime, decoder, kept),
            open_held_out=lambda: _held_out(stage, spec, runtime),
            num_workers=stage.data.num_workers,
        )
    autoencoder_spec = spec.autoencoder
    random = autoencoder_spec.random_weights()
    if random:
        kind = autoencoder_spec.kind
        runtime.remark(stage, f"autoencoder {kind!r} is untrained: {random} are random (seed {stage.spec_seed})")
    dtype = autocast_dtype(spec.precision, runtime.ranks.device.type)

    def make_autoencoder() -> Autoencoder:
        autoencoder = runtime.autoencoder(autoencoder_spec, stage)
        return autoencoder if dtype is None else LowPrecision(autoencoder, dtype).eval()

    return EvaluationSource(
        dataset=dataset,
        device=runtime.ranks.device,
        make_autoencoder=make_autoencoder,
        open_held_out=lambda: _held_out(stage, spec, runtime),
        num_workers=stage.data.num_workers,
    )


def _held_out(stage: PlannedStage, spec: EvaluateStage, runtime: StageRuntime) -> Dataset:
    """The other split of the stage's data."""
    return runtime.opened(stage, "validation" if spec.resolved_split() == "train" else "train")


def _settings(stage: PlannedStage, spec: EvaluateStage, device_type: str) -> Settings:
    if spec.denoiser is not None:
        precision = resolve_precision(stage.engine.precision, device_type)
        return sampling_settings(spec.sampler, precision, spec.labels)
    precision = resolve_precision(spec.precision, device_type)
    settings = {} if precision == "fp32" else {"precision": precision}
    random = spec.autoencoder.random_weights() if spec.autoencoder is not None else ""
    if random:
        settings["random_weights"] = f"{random} (seed {stage.spec_seed})"
    return settings_of_autoencoders(settings)


def _decoding_autoencoder(stage: PlannedStage, spec: EvaluateStage, runtime: StageRuntime) -> Autoencoder:
    if isinstance(spec.denoiser, SavedDenoiserSpec):
        return runtime.frozen(load_decoder(spec.denoiser.path, spec.denoiser.trust_code))
    decoder = spec.denoiser.decoder() if spec.denoiser is not None else None
    if decoder is not None:
        return runtime.autoencoder(decoder, stage)
    return runtime.stage_autoencoder(stage)


def _generator(
    stage: PlannedStage, spec: EvaluateStage, runtime: StageRuntime, decoder: Autoencoder, kept: SampledLatents
) -> ImageGenerator:
    assert spec.denoiser is not None
    context = runtime.context(stage)
    model = trained_model(spec.denoiser, context)
    sampler = build_sampler(spec.sampler, context)
    generator = image_generator(model, sampler, decoder.decode, stage, runtime)
    return attrs.evolve(generator, kept=kept, balanced=spec.labels == "balanced")


def image_generator(
    model: DiffusionModel,
    sampler: Sampler,
    decode: Callable[[Latents], Images],
    stage: PlannedStage,
    runtime: StageRuntime,
) -> ImageGenerator:
    """What makes images of a denoiser with the seed and the precision of a stage, on this rank's device."""
    model.denoiser.to(runtime.ranks.device).eval()
    model.normalizer.to(runtime.ranks.device)
    return ImageGenerator(
        model=model,
        sampler=sampler,
        decode=decode,
        seed=stage.seed,
        device=runtime.ranks.device,
        autocast_dtype=autocast_dtype(stage.engine.precision, runtime.ranks.device.type),
    )


def sampling_settings(sampler: SamplerSpec | None, precision: str, labels: LabelProtocol) -> Settings:
    """What the numbers of generated samples depend on, for results to record."""
    shown = default_sampler(sampler).model_dump(mode="json")
    return settings_of_samples({"sampler": shown, "precision": precision, "labels": labels})
