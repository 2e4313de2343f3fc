"""Trained models in a folder: ``config.json`` with the spec that rebuilds the architecture, and safetensors weights."""

import json
from pathlib import Path
from typing import Any

import attrs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffusability.core.autoencoder import Autoencoder
from diffusability.core.build import BuildContext
from diffusability.core.denoiser import Denoiser
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.normalizer import LatentNormalizer
from diffusability.core.parametrisation import VELOCITIES, Parametrisation
from diffusability.core.specs.components import AutoencoderSpec, DenoiserSpec
from diffusability.core.specs.references import AUTOENCODER_FORMAT, DENOISER_FORMAT
from diffusability.core.velocity_model import VelocityModel

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


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
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def read_config(directory: Path, format_name: str) -> dict[str, Any]:
    """The configuration of a saved model.

    Raises:
        CheckpointError: there is none, it is not JSON, or it is of another format.
    """
    path = Path(directory) / CONFIG
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"no saved model in {str(directory)!r}: {CONFIG} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{str(path)!r} is not valid JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != format_name:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise CheckpointError(f"{str(path)!r} has format {found!r}; expected {format_name!r}")
    return config


def read_weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of a saved model. Raises CheckpointError when the file is missing or cut short."""
    path = Path(directory) / WEIGHTS
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"no weights in {str(directory)!r}: {WEIGHTS} is missing") from None
    except SafetensorError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read, it may be cut short: {error}") from None


def _fill(module: nn.Module, weights: dict[str, Tensor], directory: Path) -> None:
    try:
        module.load_state_dict(weights)
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
    autoencoder = build_autoencoder(AutoencoderSpec.model_validate(config["autoencoder"]))
    _fill(autoencoder, read_weights(directory), directory)
    return autoencoder


@attrs.frozen(kw_only=True, eq=False)
class DiffusionModel:
    """A trained denoiser with all that sampling needs.

    Attributes:
        denoiser: predicts what ``parametrisation`` says of normalised latents.
        normalizer: maps between raw and normalised latents.
        latent_shape: shape ``(c, *t, h, w)`` of one sample.
        num_classes: class labels; None for an unconditional model.
        spec: the configuration that rebuilds the denoiser.
        parametrisation: what the denoiser predicts, and along which path.
    """

    denoiser: Denoiser
    normalizer: LatentNormalizer
    latent_shape: tuple[int, ...]
    num_classes: int | None
    spec: DenoiserSpec
    parametrisation: Parametrisation = VELOCITIES

    def velocity_model(self) -> VelocityModel:
        """The denoiser as samplers take it."""
        return VelocityModel(self.denoiser, self.parametrisation, self.normalizer)


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
    shape = tuple(config["latent_shape"])
    spec = DenoiserSpec.model_validate(config["denoiser"])
    denoiser = spec.build(BuildContext(latent_shape=shape, num_classes=config["num_classes"]))
    weights = read_weights(directory)
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
        # folders of version 0.1.0 have none: their denoisers predict velocities
        parametrisation=Parametrisation.from_config(config.get("parametrisation", {"prediction": "velocity"})),
    )


def trained_model(spec: DenoiserSpec, context: BuildContext) -> DiffusionModel:
    """The trained model that a denoiser spec refers to, whole. Raises SpecError when it refers to none."""
    directory = spec.trained_in(context)
    if directory is None:
        raise SpecError(f"denoiser {spec.kind!r} is not a trained one; expected kind 'stage' or 'saved'")
    return load_diffusion_model(directory)
