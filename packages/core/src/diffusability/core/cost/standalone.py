"""Specs without references: models of earlier stages and of folders are replaced by their architectures. No torch."""

from pathlib import Path
from typing import Any, TypeVar

from diffusability.core.cost.amounts import UnknownCost
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.reading import parsed_json
from diffusability.core.specs.base import PluginSpec, Spec
from diffusability.core.specs.components import AutoencoderSpec, DenoiserSpec
from diffusability.core.specs.model_references import (
    SavedAutoencoderSpec,
    SavedDenoiserSpec,
    StageAutoencoderSpec,
    StageDenoiserSpec,
)

AnySpec = TypeVar("AnySpec", bound=Spec)


def standalone(spec: AnySpec, stage: PlannedStage) -> AnySpec:
    """The spec, and all below it, with models of earlier stages and of folders replaced by specs of the same shape.

    Raises:
        UnknownCost: a folder holds no configuration.
    """
    made: Any
    match spec:
        case StageAutoencoderSpec() | StageDenoiserSpec():
            used = stage.inputs[spec.stage]
            objective = getattr(used.spec, "objective", None)
            inner = getattr(objective, "denoiser" if isinstance(spec, StageDenoiserSpec) else "autoencoder", None)
            if inner is None:
                raise UnknownCost(f"stage {spec.stage!r} trains no such model")
            made = standalone(inner, used)
        case SavedAutoencoderSpec():
            made = standalone(AutoencoderSpec.model_validate(saved_config(spec.path)["autoencoder"]), stage)
        case SavedDenoiserSpec():
            made = standalone(DenoiserSpec.model_validate(saved_config(spec.path)["denoiser"]), stage)
        case _:
            made = spec.model_copy(update=_changed_below(spec, stage))
    result: AnySpec = made
    return result


def _changed_below(spec: Spec, stage: PlannedStage) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, Spec):
            changed[name] = standalone(value, stage)
        elif isinstance(value, tuple) and any(isinstance(item, Spec) for item in value):
            changed[name] = tuple(standalone(item, stage) if isinstance(item, Spec) else item for item in value)
    return changed


def saved_config(folder: Path) -> dict[str, Any]:
    """The configuration of a saved model. Raises UnknownCost when there is none."""
    try:
        config: dict[str, Any] = parsed_json((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise UnknownCost(f"{str(folder)!r} holds no configuration: {error}") from None
    return config


def refuse_weights(spec: Spec) -> None:
    """Raises UnknownCost when a plugin of a spec cannot be built without reading weights."""
    for _, inner in spec.walk():
        if isinstance(inner, PluginSpec) and not inner.builds_untrained():
            raise UnknownCost(f"{inner.noun} {inner.kind!r} cannot be built without its weights")


def autoencoder_of(stage: PlannedStage) -> AutoencoderSpec:
    """The autoencoder that a stage trains, evaluates, or whose latents it works on, without references."""
    for holder in (stage.spec, getattr(stage.spec, "objective", None), stage.data):
        named: AutoencoderSpec | None = getattr(holder, "autoencoder", None)
        if named is not None:
            return standalone(named, stage)
    for used in stage.inputs.values():
        try:
            return autoencoder_of(used)
        except UnknownCost:
            continue
    raise UnknownCost(f"it is not known before the run which autoencoder decodes the samples of {stage.name!r}")
