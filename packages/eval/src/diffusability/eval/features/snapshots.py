"""Models of transformers from a folder."""

from pathlib import Path
from typing import Any

from torch import nn

from diffusability.core.errors import CheckpointError


def pretrained(cls: Any, folder: Path) -> Any:
    """A fixed model in float32 from a folder; nothing is downloaded.

    Raises:
        CheckpointError: the folder cannot be read, or lacks weights of this network.
    """
    try:
        model, report = cls.from_pretrained(str(folder), local_files_only=True, output_loading_info=True)
    except Exception as error:  # noqa: BLE001 - transformers raises many kinds for what it cannot read
        raise CheckpointError(f"the model in {str(folder)!r} cannot be read: {type(error).__name__}: {error}") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(f"the weights in {str(folder)!r} lack {len(missing)} tensors, {missing[0]!r} among them")
    assert isinstance(model, nn.Module)
    return model.float().eval().requires_grad_(False)
