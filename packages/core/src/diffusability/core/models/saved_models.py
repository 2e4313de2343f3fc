"""Trained models in a folder: ``config.json`` with the spec that rebuilds the architecture, and safetensors weights."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.reading import reading
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec, DenoiserSpec
from diffusability.core.specs.saved_format import (
    AUTOENCODER_FORMAT,
    CONFIG,
    DENOISER_FORMAT,
    WEIGHTS,
    problem_of_format,
    read_saved_config,
)
from diffusability.core.weight_prefixes import without_prefix


def build_autoencoder(spec: AutoencoderSpec, context: BuildContext | None = None) -> Autoencoder:
    """Builds an autoencoder and lets it remember the spec that rebuilds it."""
    autoencoder = spec.build(context or BuildContext())
    if autoencoder.spec is None:
        autoencoder.spec = spec
    return autoencoder


def _write(directory: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(contiguous, directory / WEIGHTS)
    (directory / CONFIG).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n")


def read_config(directory: Path, format_name: str) -> dict[str, Any]:
    """The configuration of a saved model.

    Raises:
        CheckpointError: there is none, it is not JSON, or it is of another format.
    """
    config = read_saved_config(directory)
    problem = problem_of_format(config, format_name)
    if problem is not None:
        raise CheckpointError(f"{str(Path(directory) / CONFIG)!r} {problem}")
    return config


def read_weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of a saved model. Raises CheckpointError when the file is missing or cut short."""
    path = Path(directory) / WEIGHTS
    if not path.exists():
        raise CheckpointError(f"no weights in {str(directory)!r}: {WEIGHTS} is missing")
    with reading("weights, cut short or damaged:", path, CheckpointError):
        return load_file(path)


def _fill(module: nn.Module, weights: dict[str, Tensor], directory: Path) -> None:
    try:
        module.load_state_dict(without_prefix(weights, module.state_dict(), directory / WEIGHTS))
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {str(directory)!r} do not fit their own configuration: {error}"
        ) from None


def save_autoencoder(autoencoder: Autoencoder, directory: Path) -> None:
    """Writes an autoencoder that ``load_autoencoder`` and the kind ``saved`` read."""
    assert autoencoder.spec is not None, "autoencoders are built by build_autoencoder"
    config = {"format": AUTOENCODER_FORMAT, "autoencoder": autoencoder.spec.model_dump(mode="json")}
    _write(directory, config, autoencoder.state_dict())


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
    _write(directory, config, modules.state_dict())


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
