"""Means and covariances of real images in npz files: ADM's, and our own with provenance."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.published_weights import file_digest
from diffusability.core.reading import reading
from diffusability.core.writing import replacing

#: Names of mean and covariance in ADM's files: of pooled features, and of spatial ones (sFID).
POOLED = ("mu", "sigma")
SPATIAL = ("mu_s", "sigma_s")


@attrs.frozen(kw_only=True, eq=False)
class ReferenceStatistics:
    """Statistics of a reference set.

    Attributes:
        mean: of its features.
        covariance: of its features.
        count: how many images it was made of; None when the file does not say.
        settings: of the features it was made with; None when the file does not say.
        image_size: height and width of the images; None when the file does not say.
        source: the file's name and digest, for results.
    """

    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]
    count: int | None = None
    settings: Mapping[str, Any] | None = None
    image_size: tuple[int, int] | None = None
    source: str = ""


def read_reference(path: Path, names: tuple[str, str] = POOLED) -> ReferenceStatistics:
    """Reads statistics as ADM (Dhariwal & Nichol 2021) and EDM publish them, or as ``write_reference`` writes them.

    Raises:
        DataError: the file cannot be read, lacks one of the names, or holds something else under them.
    """
    with (
        reading("reference statistics", path),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as content,
    ):
        keys = sorted(content.files)
        if not set(names) <= set(keys):
            raise DataError(
                f"{str(path)!r} holds {', '.join(map(repr, keys))}; expected statistics under {names[0]!r} and"
                f" {names[1]!r}, as in ADM's reference files"
            )
        mean, covariance = (torch.from_numpy(np.asarray(content[name], dtype=np.float64)) for name in names)
        provenance = json.loads(str(content["provenance"])) if "provenance" in keys else {}
        if not isinstance(provenance, dict):
            raise DataError(f"the provenance in {str(path)!r} is not a JSON object")
        size = provenance.get("image_size")
        image_size = None if size is None else (int(size[0]), int(size[1]))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise DataError(
            f"{str(path)!r} holds a mean of shape {tuple(mean.shape)!r} and a covariance of shape"
            f" {tuple(covariance.shape)!r}; expected (d,) and (d, d)"
        )
    if not bool(mean.isfinite().all() and covariance.isfinite().all()):
        raise DataError(f"the statistics in {str(path)!r} are not finite")
    return ReferenceStatistics(
        mean=mean,
        covariance=covariance,
        count=provenance.get("num_samples"),
        settings=provenance.get("features"),
        image_size=image_size,
        source=f"{path.name} {file_digest(path)}",
    )


def write_reference(path: Path, statistics: ReferenceStatistics, names: tuple[str, str] = POOLED) -> None:
    """Writes statistics under ADM's names, so that others can read them, with their provenance as JSON beside them."""
    provenance = {
        "features": dict(statistics.settings or {}),
        "num_samples": statistics.count,
        "image_size": statistics.image_size,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        names[0]: statistics.mean.cpu().numpy(),
        names[1]: statistics.covariance.cpu().numpy(),
        "provenance": np.array(json.dumps(provenance, allow_nan=False)),
    }
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
