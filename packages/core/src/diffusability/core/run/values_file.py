"""``values.npz`` beside the results of a stage: its metrics sample by sample, and digests of the images. No torch."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np

from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.errors import DataError
from diffusability.core.writing import replacing

VALUES_FILE = "values.npz"
_FIELDS = ("places", "values", "counts")
#: Where digests of images are kept. No metric is called so: names of metrics hold no colon.
_IMAGES = ":images"


@attrs.frozen(kw_only=True, eq=False)
class KeptValues:
    """What a stage has kept.

    Attributes:
        metrics: values by the metric's name.
        images: digests of the real images, by their place in the evaluated set; empty where none were loaded.
    """

    metrics: Mapping[str, SampleValues] = attrs.field(factory=dict)
    images: Mapping[int, int] = attrs.field(factory=dict)


def write_values(path: Path, kept: KeptValues) -> None:
    """Writes the file so that it appears whole or not at all: numpy's compressed archive, 8 bytes a number."""
    arrays = {
        f"{metric}/{name}": array
        for metric, values in kept.metrics.items()
        for name in _FIELDS
        if (array := getattr(values, name)) is not None
    }
    places = sorted(kept.images)
    arrays[f"{_IMAGES}/places"] = np.asarray(places, dtype=np.int64)
    arrays[f"{_IMAGES}/digests"] = np.asarray([kept.images[place] for place in places], dtype=np.uint64)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_values(path: Path) -> KeptValues:
    """Reads the file; empty where there is none, as of runs that were made before values were kept.

    Raises:
        DataError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, dict[str, np.ndarray]] = {}
            for name in archive.files:
                metric, _, field = name.rpartition("/")
                arrays.setdefault(metric, {})[field] = archive[name]
        images = arrays.pop(_IMAGES, None)
        return KeptValues(
            metrics={metric: SampleValues(**fields) for metric, fields in arrays.items()},
            images={}
            if images is None
            else dict(zip(images["places"].tolist(), images["digests"].tolist(), strict=True)),
        )
    except FileNotFoundError:
        return KeptValues()
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}; expected what an evaluate stage wrote") from None
