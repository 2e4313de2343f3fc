"""Finds classifier-free guidance of models that have no classes, before anything starts. Free of torch."""

from collections.abc import Iterator
from typing import Any

from diffusability.core.specs.base import SpecPath
from diffusability.core.specs.components import SamplerSpec
from diffusability.core.specs.plan import PlannedStage
from diffusability.core.specs.references import StageDenoiserSpec
from diffusability.core.specs.stages import EncodeStage, EvaluateStage, TrainStage


def samplers_of(spec: Any) -> Iterator[tuple[SpecPath, SamplerSpec]]:
    """The samplers that a stage uses, with their places in it."""
    places: tuple[tuple[SpecPath, Any], ...] = ((("sampler",), getattr(spec, "sampler", None)),)
    if isinstance(spec, TrainStage):
        places = tuple(((name, "sampler"), getattr(getattr(spec, name), "sampler", None)) for name in _IN_TRAINING)
    yield from ((path, sampler) for path, sampler in places if isinstance(sampler, SamplerSpec))


_IN_TRAINING = ("preview", "evaluate")


def needs_classes(sampler: SamplerSpec) -> bool:
    """Whether a sampler guides by classes: it has a scale, and no weaker model in their place."""
    return sampler.guidance_scale != 1 and getattr(sampler, "guide", None) is None


def guidance_findings(stage: PlannedStage) -> Iterator[tuple[SpecPath, str]]:
    """Samplers that guide a model which certainly has no classes, each with its place in the stage."""
    reason = _why_unconditional(_training_of(stage))
    if reason is None:
        return
    for path, sampler in samplers_of(stage.spec):
        if needs_classes(sampler):
            yield (
                (*path, "guidance_scale"),
                f"guidance_scale {sampler.guidance_scale!r} needs a class-conditional model, and {reason}; expected 1,"
                " or a guide",
            )


def _training_of(stage: PlannedStage) -> PlannedStage | None:
    """The stage that trains the denoiser which a stage samples from."""
    if isinstance(stage.spec, TrainStage):
        return stage
    if isinstance(stage.spec, EvaluateStage) and isinstance(stage.spec.denoiser, StageDenoiserSpec):
        return stage.inputs[stage.spec.denoiser.stage]
    return None


def _why_unconditional(training: PlannedStage | None) -> str | None:
    denoiser = getattr(getattr(training and training.spec, "objective", None), "denoiser", None)
    if training is None or denoiser is None:
        return None
    if getattr(denoiser, "class_conditional", True) is False:
        return f"the denoiser of stage {training.name!r} has class_conditional false"
    for used in training.inputs.values():
        if isinstance(used.spec, EncodeStage) and getattr(used.data, "labels", None) == "none":
            return f"the data of stage {used.name!r} have labels 'none'"
    return None
