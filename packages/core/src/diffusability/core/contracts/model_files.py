"""The files of a saved model: ``config.json`` and safetensors weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusability.core.checksums import load_verified, save_with_checksums
from diffusability.core.errors import CheckpointError
from diffusability.core.reading import reading
from diffusability.core.specs.base import PluginSpec
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.files.carried import without_weights
from diffusability.core.specs.files.saved_format import CONFIG, WEIGHTS, problem_of_format, read_saved_config


def write_model(directory: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Writes the configuration and the weights, with a checksum of each tensor."""
    directory.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_with_checksums(contiguous, directory / WEIGHTS)
    (directory / CONFIG).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n")


def spec_without_weights(
    spec: PluginSpec, weights: Mapping[str, Tensor], context: BuildContext | None = None
) -> PluginSpec:
    """The spec without the files that its weights came from, if the same weights fit what is built without them.

    Tried on the meta device. Where that fails, the spec is returned as it is, and its files are saved along.
    """
    without = without_weights(spec)
    if without == spec:
        return spec
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            made = without.build(context or BuildContext()).state_dict()
    except Exception:  # noqa: BLE001 - code of third parties may fail in any way
        return spec
    return without if _shapes(made) == _shapes(weights) else spec


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}


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
    """The tensors of a saved model. Raises CheckpointError when the file is missing, cut short or damaged."""
    path = Path(directory) / WEIGHTS
    if not path.exists():
        raise CheckpointError(f"no weights in {str(directory)!r}: {WEIGHTS} is missing")
    with reading("weights, cut short or damaged:", path, CheckpointError):
        return load_verified(path)
