"""The autoencoder and the shapes of a planned stage, inferred without building anything."""

from diffusability.core.planning.plan import PlannedStage
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec, DenoiserSpec
from diffusability.core.specs.model_references import StageAutoencoderSpec, StageDenoiserSpec


def context_of(stage: PlannedStage) -> BuildContext:
    """The build context of a planned stage, with the shape facts that are known without building anything.

    Raises:
        ValueError: the images and the autoencoder do not fit.
    """
    return BuildContext(
        stage_autoencoder=lambda name: _trained_autoencoder(stage.inputs[name]),
        stage_denoiser=lambda name: _trained_denoiser(stage.inputs[name]),
        seed=stage.seed,
        autoencoder=autoencoder_info(stage),
        image_shape=image_shape(stage),
        latent_shape=latent_shape(stage),
    )


def _autoencoder_of(stage: PlannedStage) -> AutoencoderSpec | None:
    """The autoencoder that a stage itself trains or uses, as its spec names it."""
    named: AutoencoderSpec | None = getattr(stage.spec, "autoencoder", None)
    trained = getattr(getattr(stage.spec, "objective", None), "autoencoder", None)
    denoiser: DenoiserSpec | None = getattr(stage.spec, "denoiser", None)
    decoder = denoiser.decoder() if denoiser is not None else None
    return named or trained or decoder or getattr(stage.data, "autoencoder", None)


def _trained_autoencoder(stage: PlannedStage) -> AutoencoderSpec | None:
    """The same, followed through earlier stages to the spec that holds the architecture."""
    spec = _autoencoder_of(stage)
    if isinstance(spec, StageAutoencoderSpec):
        return _trained_autoencoder(stage.inputs[spec.stage])
    return spec


def _trained_denoiser(stage: PlannedStage) -> DenoiserSpec | None:
    """The denoiser that a stage trains, followed through earlier stages to the spec that holds the architecture."""
    spec: DenoiserSpec | None = getattr(getattr(stage.spec, "objective", None), "denoiser", None)
    if isinstance(spec, StageDenoiserSpec):
        return _trained_denoiser(stage.inputs[spec.stage])
    return spec


def autoencoder_info(stage: PlannedStage) -> AutoencoderInfo | None:
    """Facts of the autoencoder that a stage trains or uses, as far as known without building it."""
    spec = _trained_autoencoder(stage)
    if spec is not None:
        return spec.info(BuildContext())
    for used in stage.inputs.values():  # latents of an encode stage, or a denoiser trained on them
        info = autoencoder_info(used)
        if info is not None:
            return info
    return None


def image_shape(stage: PlannedStage) -> tuple[int, ...] | None:
    """Shape of the images that a stage works on, directly or through cached latents."""
    if stage.data.holds == "images":
        return stage.data.image_shape()
    for used in stage.inputs.values():
        shape = image_shape(used)
        if shape is not None:
            return shape
    return None


def latent_shape(stage: PlannedStage) -> tuple[int, ...] | None:
    """Shape of the latents that a stage works on. Raises ValueError when images and autoencoder do not fit."""
    cached = stage.data.latent_shape()
    if cached is not None:
        return cached
    info, shape = autoencoder_info(stage), image_shape(stage)
    return info.latent_shape(shape) if info is not None and shape is not None else None
