"""Weights of feature networks from files."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusability.core.errors import CheckpointError
from diffusability.core.reading import reason_of
from diffusability.core.weight_prefixes import without_prefix


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors file or of a torch file (read as weights only).

    Raises:
        CheckpointError: it cannot be read, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for files that are cut short or no weights
        raise CheckpointError(f"weight file {str(path)!r} cannot be read: {reason_of(error, path)}") from None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"weight file {str(path)!r} does not hold named tensors")
    return content


def fill(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Puts weights into a module and fixes it: eval mode, no gradients.

    Raises:
        CheckpointError: they are of another network.
    """
    try:
        module.load_state_dict(without_prefix(weights, module.state_dict(), path))
    except RuntimeError as error:
        first = str(error).strip().splitlines()
        raise CheckpointError(
            f"the weights in {str(path)!r} are not of this network: {' '.join(line.strip() for line in first[:3])}"
        ) from None
    module.eval().requires_grad_(False)
