"""Finds classifier-free guidance of models that have no classes, before anything starts. Free of torch."""

from collections.abc import Iterator
from typing import Any

from diffusability.core.planning.plan import PlannedStage
from diffusability.core.specs.base import SpecPath
from diffusability.core.specs.components import SamplerSpec
from diffusability.core.specs.guidance import needs_classes, no_classes_message
from diffusability.core.specs.model_references import StageDenoiserSpec
from diffusability.core.specs.stages import EncodeStage, TrainStage


def samplers_of(spec: Any) -> Iterator[tuple[SpecPath, SamplerSpec]]:
    """The samplers that a stage uses, with their places in it."""
    places: tuple[tuple[SpecPath, Any], ...] = ((("sampler",), getattr(spec, "sampler", None)),)
    if isinstance(spec, TrainStage):
        places = tuple(((name, "sampler"), getattr(getattr(spec, name), "sampler", None)) for name in _IN_TRAINING)
    yield from ((path, sampler) for path, sampler in places if isinstance(sampler, SamplerSpec))
    sweep = getattr(spec, "sweep", None)
    if sweep is not None and sweep.field == "guidance_scale":
        guided = getattr(spec, "sampler", None) or SamplerSpec.model_construct(kind="euler")
        yield ("sweep",), guided.model_copy(update={"guidance_scale": max(sweep.values)})


_IN_TRAINING = ("preview", "evaluate")


def guidance_findings(stage: PlannedStage) -> Iterator[tuple[SpecPath, str]]:
    """Samplers that guide a model which certainly has no classes, each with its place in the stage."""
    reason = _why_unconditional(_denoiser_of(stage), stage)
    if reason is None:
        return
    for path, sampler in samplers_of(stage.spec):
        if needs_classes(sampler):
            yield (*path, "guidance_scale"), no_classes_message(sampler.guidance_scale, reason)


def _denoiser_of(stage: PlannedStage) -> Any:
    """The denoiser that a stage trains or samples from."""
    trained = getattr(getattr(stage.spec, "objective", None), "denoiser", None)
    return trained or getattr(stage.spec, "denoiser", None)


def _why_unconditional(denoiser: Any, stage: PlannedStage) -> str | None:
    """What says that a stage's denoiser has no classes: its own settings, or the data that it is trained on."""
    if denoiser is None:
        return None
    if getattr(denoiser, "class_conditional", True) is False:
        return f"the denoiser of stage {stage.name!r} has class_conditional false"
    if getattr(denoiser, "is_unconditional", bool)():  # of a file or folder that says so
        return f"the denoiser in {str(denoiser.path)!r} has num_classes null"
    if isinstance(stage.spec, TrainStage) and (reason := _why_unlabelled(stage)) is not None:
        return reason
    if isinstance(denoiser, StageDenoiserSpec):
        training = stage.inputs[denoiser.stage]
        return _why_unconditional(_denoiser_of(training), training)
    return None


def _why_unlabelled(stage: PlannedStage) -> str | None:
    """What says that the examples of a stage have no class, followed from cached latents to their images."""
    if (reason := stage.data.unlabelled()) is not None:
        return f"the data of stage {stage.name!r} have {reason}"
    if stage.data.holds == "latents":
        encoding = (used for used in stage.inputs.values() if isinstance(used.spec, EncodeStage))
        return next(filter(None, map(_why_unlabelled, encoding)), None)
    return None
