"""Features of real images in a folder: the variants of a run, and evaluations during training, compute them once."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from diffusability.core.checksums import load_verified, save_with_checksums
from diffusability.core.shapes import Images
from diffusability.core.writing import replacing

#: Largest difference from one of 256 levels at which an image counts as one of 8 bits: far above float32's rounding,
#: far below what a feature shows.
_ROUNDING = 1e-5


@attrs.frozen(kw_only=True)
class FeatureCache:
    """A file for each batch, named by a digest of its images and of what its features depend on.

    Attributes:
        directory: the folder, which need not exist; removing it loses time only.
    """

    directory: Path

    def get_or_compute(
        self, images: Images, settings: Mapping[str, Any], compute: Callable[[Images], Float[Tensor, "b d"]]
    ) -> Float[Tensor, "b d"]:
        """Features of a batch: those of the folder, or else computed and written there.

        Args:
            images: what the features are of, in [-1, 1].
            settings: what else they depend on, as JSON.
            compute: gives the features of the images.
        """
        description = json.dumps([settings, images.device.type, list(images.shape)], sort_keys=True, default=str)
        digest = hashlib.blake2b(description.encode(), digest_size=20)
        digest.update(_content(images))
        path = self.directory / f"{digest.hexdigest()}.safetensors"
        cached = _read(path)
        if cached is not None and len(cached) == len(images):
            return cached.to(images.device)
        features = compute(images)
        self.directory.mkdir(parents=True, exist_ok=True)
        with replacing(path, shared=True) as partial:
            save_with_checksums({"features": features.cpu().contiguous()}, partial)
        return features


def _content(images: Images) -> bytes:
    """What tells images apart: a byte a value where they are of 8 bits, else the values."""
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255)
    rounded = bool(((levels / 127.5 - 1) - images).abs().max() < _ROUNDING)
    values = levels.to(torch.uint8) if rounded else images.float()
    return values.cpu().contiguous().numpy().tobytes()


def _read(path: Path) -> Tensor | None:
    """The features of a file; None when there is none, or a damaged one."""
    try:
        return load_verified(path).get("features")
    except (OSError, SafetensorError, ValueError):
        return None
