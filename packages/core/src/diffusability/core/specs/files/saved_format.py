"""What the ``config.json`` of a folder with a model says of it, whoever wrote the folder. Free of torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusability.core.errors import CheckpointError
from diffusability.core.reading import read_json_object

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
AUTOENCODER_FORMAT = "diffusability-autoencoder"
DENOISER_FORMAT = "diffusability-denoiser"
#: The key of a denoiser's configuration that says what decodes its latents.
AUTOENCODER = "autoencoder"
#: The key of a denoiser's configuration with its spec.
DENOISER = "denoiser"
#: The key of an autoencoder's configuration with its shape facts.
INFO = "info"

_NOUNS = {AUTOENCODER_FORMAT: "autoencoder", DENOISER_FORMAT: "denoiser"}
#: Parts of the names of classes of other libraries that tell a denoiser.
_DENOISER_CLASSES = ("Transformer", "UNet", "DiT", "ControlNet", "Prior")


def read_saved_config(directory: Path) -> dict[str, Any]:
    """The object in ``config.json``. Raises CheckpointError when it is missing, or is not a JSON object."""
    path = Path(directory) / CONFIG
    if not path.exists():
        raise CheckpointError(f"no saved model in {str(directory)!r}: {CONFIG} is missing")
    return read_json_object(path, "the configuration", CheckpointError)


def noun_of_class(name: object) -> str | None:
    """``autoencoder`` or ``denoiser``, by the name of a class of diffusers; None for what tells neither."""
    if not isinstance(name, str):
        return None
    if name.startswith(("Autoencoder", "AsymmetricAutoencoder", "ConsistencyDecoder", "VQModel")):
        return "autoencoder"
    return "denoiser" if any(part in name for part in _DENOISER_CLASSES) else None


def problem_of_format(config: Mapping[str, Any], wanted: str) -> str | None:
    """Why a folder is not what is expected, naming what it is instead; None when it is."""
    noun, actual = _NOUNS[wanted], config.get("format")
    if actual == wanted:
        key = noun
        return None if isinstance(config.get(key), Mapping) else f"is damaged: {key!r} is missing"
    if isinstance(actual, str) and actual in _NOUNS:
        return f"is of {_with_article(_NOUNS[actual])} that diffusability saved; expected {_with_article(noun)}"
    name = config.get("_class_name")
    theirs = noun_of_class(name)
    if theirs == noun == "autoencoder":
        return f"is of an autoencoder of diffusers ({name}), not one saved here; use kind 'diffusers'"
    if theirs is not None:
        expected = f"expected {_with_article(noun)} that diffusability saved"
        return f"is of {_with_article(theirs)} of diffusers ({name}); {expected}"
    return f"has format {actual!r}; expected {wanted!r}"


def check_saved(directory: Path, wanted: str) -> None:
    """Looks whether a folder holds a saved model of a format.

    Raises:
        ValueError: files are missing, or it holds something else; says what.
    """
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise ValueError(f"{str(directory)!r} holds no saved {_NOUNS[wanted]}: {name} is missing")
    try:
        config = read_saved_config(directory)
    except CheckpointError as error:
        raise ValueError(str(error)) from None
    problem = problem_of_format(config, wanted)
    if problem is not None:
        raise ValueError(f"{str(directory / CONFIG)!r} {problem}")


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
