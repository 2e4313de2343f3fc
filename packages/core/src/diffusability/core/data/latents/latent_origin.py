"""What latents were made of, by digest, so that a cache of something else is never taken for this one."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.errors import DataError
from diffusability.core.specs.components import DatasetSpec
from diffusability.core.specs.files.contents import contents


@attrs.frozen(kw_only=True)
class Origin:
    """One thing that latents depend on.

    Attributes:
        digest: identifies it.
        description: what error messages call it.
        contents: a digest of the files, where it has some.
    """

    digest: str
    description: str
    contents: str = ""

    def __str__(self) -> str:
        files = f", files {self.contents[:12]}" if self.contents else ""
        return f"{self.description} (digest {self.digest[:12]}{files})"

    def as_json(self) -> dict[str, str]:
        """Its entry in the metadata of a cache."""
        return {"digest": self.digest, "words": self.description, "contents": self.contents}

    @classmethod
    def from_json(cls, recorded: Mapping[str, str]) -> "Origin":
        """From the metadata of a cache; those of earlier versions lack the contents."""
        return cls(digest=recorded["digest"], description=recorded["words"], contents=recorded.get("contents", ""))


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def autoencoder_origin(autoencoder: nn.Module, kind: str) -> Origin:
    """The autoencoder by its class and weights: the same weights give the same digest, wherever they came from."""
    inner = tensors_digest(autoencoder.state_dict())
    digest = hashlib.sha256(f"{type(autoencoder).__name__} {inner}".encode()).hexdigest()
    return Origin(digest=digest, description=f"autoencoder {kind!r}")


def data_origin(data: DatasetSpec, split: str) -> Origin:
    """The images and their transform, by everything in their spec that can change a pixel, and by their files."""
    fields = data.identity()
    identity = json.dumps({"data": fields, "split": split}, sort_keys=True, default=str)
    digest = hashlib.sha256(identity.encode()).hexdigest()
    shown = {name: value for name, value in fields.items() if name in ("path", "shards", "resolution")}
    description = ", ".join(
        [f"data {data.kind!r}", *(f"{name} {value}" for name, value in shown.items()), f"split {split}"]
    )
    files = [f"{name} {contents(file_set).digest}" for name, file_set in sorted(data.files_read().items())]
    held = hashlib.sha256("\n".join(files).encode()).hexdigest() if files else ""
    return Origin(digest=digest, description=description, contents=held)


def normalizer_origin(normalizer: LatentNormalizer, how: str = "") -> Origin:
    """The normaliser, by its statistics."""
    tensors = {"mean": normalizer.mean.float(), "std": normalizer.std.float()}
    first = ", ".join(f"{value:.4g}" for value in normalizer.std.flatten()[:3].tolist())
    return Origin(digest=tensors_digest(tensors), description=f"{how} normaliser with std {first}...".strip())


def indices_digest(indices: list[int]) -> str:
    """Which examples of a set a shard holds."""
    return hashlib.sha256(np.asarray(indices, dtype=np.int64).tobytes()).hexdigest()


def refuse_other(where: str, recorded: Mapping[str, Any] | None, wanted: Origin, advice: str) -> None:
    """Compares what a cache says it was made with.

    Raises:
        DataError: it is something else; names both, with their digests.
    """
    if not recorded:
        return
    held = recorded.get("contents", "")  # caches of earlier versions do not say it
    if recorded["digest"] == wanted.digest and (not held or not wanted.contents or held == wanted.contents):
        return
    before = Origin.from_json(recorded)
    same = ": the name is the same, the content is not" if before.description == wanted.description else ""
    raise DataError(f"{where} was made with {before}, not with {wanted}{same}; {advice}")
