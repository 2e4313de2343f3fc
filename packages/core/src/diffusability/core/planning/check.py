"""Checks a plan before anything starts, without torch: files, capabilities, shapes, batches."""

import math
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from diffusability.core.data.specs.latents import LatentsSpec
from diffusability.core.errors import CheckpointError, DataError, PluginError, Problem, SpecError
from diffusability.core.extras import require_extra
from diffusability.core.planning.guidance_check import guidance_findings
from diffusability.core.planning.plan import Plan, PlannedStage
from diffusability.core.planning.stage_context import context_of
from diffusability.core.plugins.contract_checks import build_fault, plugin_named
from diffusability.core.specs.base import PluginSpec, SpecPath
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import SPEC_BASES, EvaluatorSpec, RegularizerSpec
from diffusability.core.specs.engine import ROUNDED_WEIGHTS, OffloadSpec
from diffusability.core.specs.evaluation_fields import (
    OF_AUTOENCODER_EVALUATION,
    OF_DENOISER_EVALUATION,
    OF_EVALUATE_STAGES,
    OF_SAMPLERS,
)
from diffusability.core.specs.model_references import StageAutoencoderSpec, StageDenoiserSpec, untrained_message
from diffusability.core.specs.stages import EncodeStage, EvaluateStage, TrainStage

#: Fields of StepOutput that an adversarial loss compares.
ADVERSARIAL_NEEDS = frozenset({"images", "reconstruction"})

Finding = tuple[SpecPath, str]


def check(plan: Plan, num_ranks: int = 1, files: Collection[PlannedStage] | None = None) -> None:
    """Checks every planned stage.

    Args:
        plan: what is to run.
        num_ranks: ranks that it would run on.
        files: stages whose files and packages are looked for; default: all. With none, a plan for another machine can
            be checked.

    Raises:
        SpecError: with all problems, each with its place in the file.
    """
    problems: list[Problem] = []
    for stage in plan.order:
        source = plan.sources[stage.variants[0]]
        for path, message in _findings(stage, num_ranks, files is None or stage in files):
            first, _, hint = message.partition("; ")
            problem = Problem(first, ".".join(map(str, path)), source.locate(path), hint)
            if problem not in problems:
                problems.append(problem)
    if problems:
        raise SpecError(problems)


def _findings(stage: PlannedStage, num_ranks: int, files: bool) -> Iterator[Finding]:
    here: SpecPath = ("stages", stage.name)
    data_path: SpecPath = (*here, "data") if stage.spec.data is not None else ("data",)
    parts = [(here, stage.spec)] + ([] if stage.spec.data is not None else [(data_path, stage.data)])
    for base, part in parts if files else []:
        for path, spec in part.walk():
            if isinstance(spec, PluginSpec):
                yield from _caught((*base, *path), spec.check_inputs)
    for base, part in parts:
        for path, spec in part.walk():
            if isinstance(spec, PluginSpec):
                fault = build_fault(type(spec), SPEC_BASES[spec.group])
                if fault is not None:
                    yield (*base, *path, "kind"), f"{plugin_named(type(spec), spec.group)}: {fault}"
    shape_problem = list(_caught((*here, "data"), lambda: context_of(stage)))
    yield from shape_problem
    context = BuildContext() if shape_problem else context_of(stage)
    yield from (((*here, *path), message) for path, message in guidance_findings(stage))
    match stage.spec:
        case TrainStage():
            yield from _train_findings(stage, stage.spec, here, context, num_ranks)
            if files:
                yield from _caught(here, partial(require_extra, "train", "a training stage"))
                yield from _offload_findings(stage, here)
        case EncodeStage():
            if stage.data.holds != "images":
                yield (
                    data_path,
                    f"an encode stage reads images; data of kind {stage.data.kind!r} holds {stage.data.holds}",
                )
        case EvaluateStage():
            yield from _evaluate_findings(stage, stage.spec, here, data_path, context)


def _caught(path: SpecPath, call: Callable[[], Any]) -> Iterator[Finding]:
    try:
        call()
    except (ValueError, OSError, DataError, CheckpointError, PluginError) as error:
        yield path, str(error)


def _train_findings(
    stage: PlannedStage, spec: TrainStage, here: SpecPath, context: BuildContext, num_ranks: int
) -> Iterator[Finding]:
    objective = spec.objective
    if stage.data.holds != objective.trains_on:
        yield (
            (*here, "objective", "kind"),
            f"objective {objective.kind!r} trains on {objective.trains_on}, but data of kind {stage.data.kind!r} holds"
            f" {stage.data.holds}; "
            + ("use data of kind 'latents'" if objective.trains_on == "latents" else "use a dataset of images"),
        )
        return
    yield from _reference_findings(stage, here)
    yield from _batch_findings(stage, spec, here, num_ranks)
    yield from _caught((*here, "objective"), lambda: objective.num_parameters(context))
    if context.image_shape is not None:
        yield from _caught((*here, "objective"), partial(objective.check_images, context.image_shape))
    for index, regularizer in enumerate(spec.regularizers):
        path = (*here, "regularizers", index)
        needs, faults = _needs(regularizer, context)
        yield from ((path, fault) for fault in faults)
        missing = needs - objective.provides
        if missing:
            yield (
                (*path, "kind"),
                f"regularizer {regularizer.kind!r} needs {_listed(missing)}, which objective {objective.kind!r} does"
                f" not provide; it provides {_listed(objective.provides)}",
            )
            continue
        yield from _caught(path, partial(regularizer.check_model, context))
        yield from _caught(path, partial(regularizer.check_engine, stage.engine))
    if spec.adversarial is not None and not objective.provides >= ADVERSARIAL_NEEDS:
        yield (
            (*here, "adversarial"),
            f"an adversarial loss needs {_listed(ADVERSARIAL_NEEDS)}, which objective {objective.kind!r} does not"
            f" provide; it provides {_listed(objective.provides)}",
        )
    if spec.evaluate is not None:
        if isinstance(stage.data, LatentsSpec) and stage.data.path is not None and stage.data.images is None:
            yield (*here, "evaluate"), "evaluation needs real images, and these latents name no 'images'"
        provided = OF_AUTOENCODER_EVALUATION if objective.trains_on == "images" else OF_DENOISER_EVALUATION
        for index, evaluator in enumerate(spec.evaluate.evaluators):
            yield from _evaluator_findings(evaluator, provided, (*here, "evaluate", "evaluators", index), context)


def _evaluate_findings(
    stage: PlannedStage, spec: EvaluateStage, here: SpecPath, data_path: SpecPath, context: BuildContext
) -> Iterator[Finding]:
    yield from _reference_findings(stage, here)
    if stage.data.holds != "images":
        yield (
            data_path,
            f"an evaluate stage compares with images; data of kind {stage.data.kind!r} holds {stage.data.holds}",
        )
    provided = OF_AUTOENCODER_EVALUATION if spec.autoencoder is not None else OF_DENOISER_EVALUATION
    provided |= OF_EVALUATE_STAGES
    if spec.denoiser is not None and not spec.denoiser.is_trained():
        yield (*here, "denoiser", "kind"), untrained_message(spec.denoiser.kind)
    if spec.sweep is not None and not any(
        needs_of(evaluator, BuildContext()) & OF_SAMPLERS for evaluator in spec.evaluators
    ):
        yield (*here, "sweep"), "no evaluator of this stage looks at samples, so there is nothing to sweep"
    for index, evaluator in enumerate(spec.evaluators):
        yield from _evaluator_findings(evaluator, provided, (*here, "evaluators", index), context)


def _evaluator_findings(
    spec: EvaluatorSpec, provided: frozenset[str], path: SpecPath, context: BuildContext
) -> Iterator[Finding]:
    needs, faults = _needs(spec, BuildContext())
    yield from ((path, fault) for fault in faults)
    missing = needs - provided
    if missing:
        yield (
            (*path, "kind"),
            f"evaluator {spec.kind!r} needs {_listed(missing)}, which this stage lacks; it has {_listed(provided)}",
        )
    elif context.image_shape is not None:
        yield from _caught(path, partial(spec.check_images, context.image_shape))


def _reference_findings(stage: PlannedStage, here: SpecPath) -> Iterator[Finding]:
    """An autoencoder must come from a stage that trains an autoencoder, a denoiser from one that trains a denoiser."""
    for path, spec in stage.spec.walk():
        if not isinstance(spec, StageAutoencoderSpec | StageDenoiserSpec):
            continue
        used = stage.inputs[spec.stage].spec
        wanted = "denoiser" if isinstance(spec, StageDenoiserSpec) else "autoencoder"
        if not isinstance(used, TrainStage):
            continue
        if getattr(used.objective, wanted, None) is None:
            yield (
                (*here, *path, "stage"),
                f"stage {spec.stage!r} trains with objective {used.objective.kind!r}, which has no {wanted}",
            )


def _batch_findings(stage: PlannedStage, spec: TrainStage, here: SpecPath, num_ranks: int) -> Iterator[Finding]:
    if spec.batch_size % num_ranks:
        yield (
            (*here, "batch_size"),
            f"batch_size {spec.batch_size} is not divisible by the {num_ranks} ranks; it is the global batch",
        )
        return
    micro = stage.engine.micro_batch_size
    if micro is not None and (spec.batch_size // num_ranks) % micro:
        yield (
            (*here, "batch_size"),
            f"batch_size {spec.batch_size} over {num_ranks} ranks is {spec.batch_size // num_ranks} a rank, not"
            f" divisible by engine.micro_batch_size {micro}",
        )


def _offload_findings(stage: PlannedStage, here: SpecPath) -> Iterator[Finding]:
    path = stage.engine.offload.nvme_path if stage.engine.offload is not None else None
    if path is not None and not Path(path).is_dir():
        base: SpecPath = (*here, "engine") if stage.spec.engine is not None else ("engine",)
        yield (*base, "offload", "nvme_path"), f"folder {path!r} does not exist; expected one on the NVMe disk"


def needs_of(spec: RegularizerSpec | EvaluatorSpec, context: BuildContext) -> frozenset[str]:
    """What a regularizer or evaluator reads: declared on its spec class, or else on the object that it builds."""
    declared = spec.needed() if isinstance(spec, EvaluatorSpec) else spec.needs
    return declared if declared is not None else spec.build(context).needs


def _needs(spec: RegularizerSpec | EvaluatorSpec, context: BuildContext) -> tuple[frozenset[str], list[str]]:
    """What a regularizer or evaluator reads, and why it cannot be known, where its files alone do not say so."""
    try:
        return needs_of(spec, context), []
    except (ValueError, OSError, DataError, CheckpointError, PluginError) as error:
        said = [message for _, message in _caught((), spec.check_inputs)]
        return frozenset(), [] if said else [str(error)]


@attrs.frozen(kw_only=True)
class TrainingEstimate:
    """What a training stage costs.

    Attributes:
        num_parameters: trained parameters, or None when only known once built.
        state_bytes_per_rank: weights, gradients, AdamW moments and moving averages, without activations.
    """

    num_parameters: int | None
    state_bytes_per_rank: int | None


def estimate(stage: PlannedStage, num_ranks: int = 1, num_parameters: int | None = None) -> TrainingEstimate:
    """What a training stage costs, at 4 bytes a parameter for each of weights, gradients, two moments and average.

    Rounded weights take 2 bytes. Offloaded state does not count. ``num_parameters``: where the caller has counted them.
    """
    spec = stage.spec
    assert isinstance(spec, TrainStage)
    count = num_parameters if num_parameters is not None else spec.objective.num_parameters(context_of(stage))
    if count is None:
        return TrainingEstimate(num_parameters=None, state_bytes_per_rank=None)
    zero = stage.engine.zero_stage
    rounded = stage.engine.precision in ROUNDED_WEIGHTS
    offload = stage.engine.offload or OffloadSpec.model_construct()
    weights, gradients, moments = (2 if rounded else 4) * count, 4 * count, 8 * count
    average = 4 * count * spec.ema.num_averages() if spec.ema is not None else 0
    if zero >= 1:
        moments = (moments + 4 * count) // num_ranks  # the sharded optimizer keeps its own copy of its weights
    if zero >= 2:
        gradients //= num_ranks
    if zero >= 3:
        weights = weights // num_ranks
    if zero >= 3 or rounded:
        average //= num_ranks
    if offload.optimizer is not None:
        moments = 0
    if offload.parameters is not None:
        weights = 0
    return TrainingEstimate(num_parameters=count, state_bytes_per_rank=weights + gradients + moments + average)


def encoded_bytes_per_sample(stage: PlannedStage) -> int | None:
    """What an encode stage writes for a sample, or None when the latents' shape is only known once built.

    ``views x 2 x c x t x h x w x 2`` bytes: mean and log variance (which deterministic autoencoders lack) in half
    precision, of two views with flips.
    """
    spec = stage.spec
    assert isinstance(spec, EncodeStage)
    shape = context_of(stage).latent_shape
    return None if shape is None else (2 if spec.flips else 1) * 2 * math.prod(shape) * 2


def _listed(names: frozenset[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "nothing"
