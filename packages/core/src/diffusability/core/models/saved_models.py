"""Trained models in a folder: ``config.json`` with the spec that rebuilds the architecture, and safetensors weights."""

from pathlib import Path

from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.model_files import read_config, read_weights, write_model
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.reading import reading
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec, DenoiserSpec
from diffusability.core.specs.model_references import (
    SavedAutoencoderSpec,
    SavedDenoiserSpec,
    StageAutoencoderSpec,
    StageDenoiserSpec,
)
from diffusability.core.specs.saved_format import (
    AUTOENCODER,
    AUTOENCODER_FORMAT,
    CONFIG,
    DENOISER_FORMAT,
    WEIGHTS,
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


def load_autoencoder(directory: Path) -> Autoencoder:
    """Reads what ``save_autoencoder`` wrote. Raises CheckpointError when it is missing, cut short or does not fit."""
    config = read_config(directory, AUTOENCODER_FORMAT)
    with reading("saved autoencoder", Path(directory) / CONFIG, CheckpointError):
        autoencoder = build_autoencoder(AutoencoderSpec.model_validate(config["autoencoder"]))
    _fill(autoencoder, read_weights(directory), directory)
    return autoencoder


def save_diffusion_model(model: DiffusionModel, directory: Path) -> None:
    """Writes a denoiser and its latent normaliser."""
    config = {
        "format": DENOISER_FORMAT,
        "denoiser": model.spec.model_dump(mode="json"),
        "latent_shape": list(model.latent_shape),
        "num_classes": model.num_classes,
        "parametrisation": model.parametrisation.config(),
    }
    modules = nn.ModuleDict({"denoiser": model.denoiser, "normalizer": model.normalizer})
    write_model(directory, config, modules.state_dict())


def load_diffusion_model(directory: Path) -> DiffusionModel:
    """Reads what ``save_diffusion_model`` wrote."""
    config = read_config(directory, DENOISER_FORMAT)
    with reading("saved denoiser", Path(directory) / CONFIG, CheckpointError):
        shape = tuple(config["latent_shape"])
        spec = DenoiserSpec.model_validate(config["denoiser"])
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
        raise SpecError(f"denoiser {spec.kind!r} is not a trained one; expected kind 'stage' or 'saved'")
    return load_diffusion_model(directory)


def load_decoder(directory: Path) -> Autoencoder:
    """The autoencoder whose latents a saved denoiser makes, as its configuration refers to it.

    Raises:
        CheckpointError: it names none, or what it names is not there.
    """
    reference = read_config(directory, DENOISER_FORMAT).get(AUTOENCODER)
    if reference is None:
        raise CheckpointError(
            f"the denoiser in {str(directory)!r} names no autoencoder that decodes its latents; give its folder"
        )
    if reference.get("kind") == "saved":  # relative to the denoiser's folder, so that both can be moved together
        return load_autoencoder(directory / reference["path"])
    return build_autoencoder(AutoencoderSpec.model_validate(reference))


def autoencoder_of(spec: StageAutoencoderSpec | SavedAutoencoderSpec, context: BuildContext) -> Autoencoder:
    """The saved autoencoder that a spec of kind ``stage`` or ``saved`` refers to."""
    if isinstance(spec, StageAutoencoderSpec):
        return load_autoencoder(context.stage_directory(spec.stage) / "model")
    return load_autoencoder(spec.path)


def denoiser_of(spec: StageDenoiserSpec | SavedDenoiserSpec, context: BuildContext) -> Denoiser:
    """The saved denoiser that a spec of kind ``stage`` or ``saved`` refers to."""
    return load_diffusion_model(spec.trained_in(context)).denoiser
