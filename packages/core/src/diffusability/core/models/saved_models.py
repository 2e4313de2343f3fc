"""Trained models in a folder: ``config.json`` with the spec that rebuilds the architecture, and safetensors weights."""

from pathlib import Path

from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.model_files import read_config, read_weights, spec_without_weights, write_model
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.reading import reading
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec, DenoiserSpec
from diffusability.core.specs.files.carried import carried, code_digests, refuse_code, spec_of
from diffusability.core.specs.files.saved_format import (
    AUTOENCODER,
    AUTOENCODER_FORMAT,
    CONFIG,
    DENOISER,
    DENOISER_FORMAT,
    WEIGHTS,
)
from diffusability.core.specs.model_references import (
    SavedAutoencoderSpec,
    SavedDenoiserSpec,
    StageAutoencoderSpec,
    StageDenoiserSpec,
    untrained_message,
)
from diffusability.core.weight_prefixes import without_prefix


def _fill(module: nn.Module, weights: dict[str, Tensor], directory: Path) -> None:
    try:
        module.load_state_dict(without_prefix(weights, module.state_dict(), directory / WEIGHTS))
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {str(directory)!r} do not fit their own configuration: {error}"
        ) from None


def save_autoencoder(autoencoder: Autoencoder, directory: Path) -> None:
    """Writes an autoencoder that ``load_autoencoder`` and the kind ``saved`` read."""
    autoencoder.save(directory)


def load_autoencoder(
    directory: Path, trust_code: bool = False, known_code: frozenset[str] = frozenset()
) -> Autoencoder:
    """Reads what ``save_autoencoder`` wrote.

    Args:
        directory: the folder.
        trust_code: let code run that the folder carries.
        known_code: digests of code that may run in any case.

    Raises:
        CheckpointError: it is missing, cut short or does not fit, or carries code that may not run.
    """
    config = read_config(directory, AUTOENCODER_FORMAT)
    with reading("saved autoencoder", Path(directory) / CONFIG, CheckpointError):
        spec = AutoencoderSpec.model_validate(spec_of(config, AUTOENCODER, Path(directory)))
        refuse_code(spec, Path(directory), trust_code, known_code)
        autoencoder = build_autoencoder(spec)
    _fill(autoencoder, read_weights(directory), directory)
    return autoencoder


def save_diffusion_model(model: DiffusionModel, directory: Path) -> None:
    """Writes a denoiser and its latent normaliser."""
    context = BuildContext(latent_shape=model.latent_shape, num_classes=model.num_classes)
    kept = carried(spec_without_weights(model.spec, model.denoiser.state_dict(), context))
    config = {
        "format": DENOISER_FORMAT,
        **kept.config(DENOISER),
        "latent_shape": list(model.latent_shape),
        "num_classes": model.num_classes,
        "parametrisation": model.parametrisation.config(),
    }
    modules = nn.ModuleDict({"denoiser": model.denoiser, "normalizer": model.normalizer})
    write_model(directory, config, modules.state_dict())
    kept.copy_to(directory)


def load_diffusion_model(
    directory: Path, trust_code: bool = False, known_code: frozenset[str] = frozenset()
) -> DiffusionModel:
    """Reads what ``save_diffusion_model`` wrote; of code that the folder carries see ``load_autoencoder``."""
    config = read_config(directory, DENOISER_FORMAT)
    with reading("saved denoiser", Path(directory) / CONFIG, CheckpointError):
        shape = tuple(config["latent_shape"])
        spec = DenoiserSpec.model_validate(spec_of(config, DENOISER, Path(directory)))
        refuse_code(spec, Path(directory), trust_code, known_code)
        denoiser = spec.build(BuildContext(latent_shape=shape, num_classes=config["num_classes"]))
        # folders of version 0.1.0 have none: their denoisers predict velocities
        parametrisation = Parametrisation.from_config(config.get("parametrisation", {"prediction": "velocity"}))
    weights = read_weights(directory)
    expected = [*(f"denoiser.{name}" for name in denoiser.state_dict()), "normalizer.mean", "normalizer.std"]
    weights = without_prefix(weights, expected, Path(directory) / WEIGHTS)
    try:
        normalizer = LatentNormalizer(weights["normalizer.mean"], weights["normalizer.std"])
    except KeyError as error:
        raise CheckpointError(f"the weights in {str(directory)!r} lack the normaliser of latents: {error}") from None
    _fill(nn.ModuleDict({"denoiser": denoiser, "normalizer": normalizer}), weights, directory)
    return DiffusionModel(
        denoiser=denoiser,
        normalizer=normalizer,
        latent_shape=shape,
        num_classes=config["num_classes"],
        spec=spec,
        parametrisation=parametrisation,
    )


def trained_model(spec: DenoiserSpec, context: BuildContext) -> DiffusionModel:
    """The trained model that a denoiser spec refers to, whole. Raises SpecError when it refers to none."""
    directory = spec.trained_in(context)
    if directory is None:
        elsewhere: DiffusionModel | None = spec.trained_elsewhere(context)
        if elsewhere is None:
            raise SpecError(untrained_message(spec.kind))
        return elsewhere
    return load_diffusion_model(directory, *_code_of(spec, context))


def load_decoder(directory: Path, trust_code: bool = False) -> Autoencoder:
    """The autoencoder whose latents a saved denoiser makes, as its configuration refers to it.

    Raises:
        CheckpointError: it names none, or what it names is not there or carries code that may not run.
    """
    reference = read_config(directory, DENOISER_FORMAT).get(AUTOENCODER)
    if reference is None:
        raise CheckpointError(
            f"the denoiser in {str(directory)!r} names no autoencoder that decodes its latents; give its folder"
        )
    if reference.get("kind") == "saved":  # relative to the denoiser's folder, so that both can be moved together
        return load_autoencoder(directory / reference["path"], trust_code)
    named = AutoencoderSpec.model_validate(reference)
    refuse_code(named, directory, trust_code)
    return build_autoencoder(named)


def autoencoder_of(spec: StageAutoencoderSpec | SavedAutoencoderSpec, context: BuildContext) -> Autoencoder:
    """The saved autoencoder that a spec of kind ``stage`` or ``saved`` refers to."""
    if isinstance(spec, StageAutoencoderSpec):
        known = code_digests(context.stage_autoencoder(spec.stage))
        return load_autoencoder(context.stage_directory(spec.stage) / "model", known_code=known)
    return load_autoencoder(spec.path, spec.trust_code)


def denoiser_of(spec: StageDenoiserSpec | SavedDenoiserSpec, context: BuildContext) -> Denoiser:
    """The saved denoiser that a spec of kind ``stage`` or ``saved`` refers to."""
    return load_diffusion_model(spec.trained_in(context), *_code_of(spec, context)).denoiser


def _code_of(spec: DenoiserSpec, context: BuildContext) -> tuple[bool, frozenset[str]]:
    """Whether the code of a trained denoiser may run, and which may: that which the spec of the run names itself."""
    if isinstance(spec, StageDenoiserSpec):
        return False, code_digests(context.stage_denoiser(spec.stage))
    return getattr(spec, "trust_code", False), frozenset()
