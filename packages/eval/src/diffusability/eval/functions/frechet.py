"""The Frechet distance of two sets of images."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.errors import DataError
from diffusability.core.facade.checked import checked
from diffusability.core.facade.image_sets import ValueRange, image_set
from diffusability.core.shapes import Images
from diffusability.core.specs.components import FeaturesSpec
from diffusability.core.stages.evaluation_data import chunk_views
from diffusability.eval.features.feature_sets import shared_features
from diffusability.eval.generation.frechet import frechet_distance
from diffusability.eval.generation.small_sample_bias import NEAR, PARTS, bias_note, small_sample_bias
from diffusability.eval.specs.generation import FrechetSpec, too_few
from diffusability.eval.streaming.gaussian_statistics import GaussianStatistics
from diffusability.eval.streaming.grouped_statistics import GroupedStatistics

Features = Callable[[Images], Float[Tensor, "b d"]]


@torch.no_grad()
def frechet(
    real: Any,
    generated: Any,
    *,
    features: str | Mapping[str, Any] | Features = "inception",
    resolution: int | None = None,
    value_range: ValueRange | None = None,
    batch_size: int = 32,
    force: bool = False,
    device: torch.device | str | None = None,
) -> EvalResult:
    """The squared Frechet distance between the features of two sets of images (FID, with Inception's features).

    Args:
        real: whatever ``score`` takes as images.
        generated: likewise; as many as there are, or fewer.
        features: a kind (``inception``, ``dinov2``, ``clip``, ``efficientnet-lite0``), a mapping with its settings, or
            any function from images in [-1, 1] to vectors.
        resolution: side in pixels of pictures and files; default: 256.
        value_range: values of black and white in tensors and arrays.
        batch_size: images at once.
        force: compute it also of no more images than features, where it is far off.
        device: where to compute; default: a GPU where there is one.

    Returns:
        ``value``, the distance; ``metric``, its name, which is ``fid`` with Inception's features alone; and ``note``
        where much of it is due to the small number of images.

    Raises:
        DataError: the sets have images of different sizes, or fewer than features.
        SpecError: there are no such features, or their weights are missing.
    """
    metric, kind, function = _named_features(features)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    sets = [image_set(images, resolution=resolution, value_range=value_range).dataset for images in (real, generated)]
    with torch.random.fork_rng(devices=[]):  # loading data draws from torch's generator
        first, second = (_statistics(dataset, function, batch_size, where, metric) for dataset in sets)
    length = len(first.whole().mean)
    fewest = min(first.count, second.count)
    if fewest <= length and not force:
        raise DataError(too_few(metric, fewest, length).replace("'force: true'", "force=True"))
    _require_one_size(sets, metric)
    bias = small_sample_bias(first, _distance) if fewest <= NEAR * length else None
    note = "" if bias is None else bias_note(bias.distance_bias(first.count, second.count), fewest, length)
    return EvalResult(
        metric=metric,
        value=_distance(first.whole(), second.whole()),
        higher_is_better=False,
        num_samples=second.count,
        spec={"features": kind, "num_real": first.count},
        note=note,
    )


def _named_features(features: str | Mapping[str, Any] | Features) -> tuple[str, str, Features]:
    """The metric's name, the features' and the function."""
    if callable(features):
        name = getattr(features, "__name__", type(features).__name__).strip("<>")
        return f"frechet_{name}", name, features
    fields: dict[str, Any] = {"kind": features} if isinstance(features, str) else dict(features)
    spec = checked(FrechetSpec, {"kind": "frechet", "features": fields, "force": True}, "frechet")
    checked(FeaturesSpec, fields, "features")
    shared = shared_features(spec.features)
    return spec.metric(), spec.features.kind, lambda images: shared.extract(images, range(len(images)))


def _statistics(
    dataset: Dataset, features: Features, batch_size: int, device: torch.device, metric: str
) -> GroupedStatistics:
    statistics, seen = GroupedStatistics(PARTS), 0
    for images in _batches(dataset, batch_size):
        vectors = features(images.to(device))
        if vectors.ndim != 2 or len(vectors) != len(images):
            raise DataError(
                f"{metric}: the features of {len(images)} images have the shape {tuple(vectors.shape)!r}; expected one"
                f" vector each, ({len(images)}, d)"
            )
        statistics.update(vectors.float(), range(seen, seen + len(images)))
        seen += len(images)
    if seen < 2:
        raise DataError(f"{metric} needs at least two images of each set, got {seen}")
    return statistics


def _batches(dataset: Dataset, batch_size: int) -> Iterator[Images]:
    chunks = [range(first, min(first + batch_size, len(dataset))) for first in range(0, len(dataset), batch_size)]
    for views in chunk_views(dataset, chunks):
        if views.unreadable:
            raise DataError(f"an image cannot be read: {views.unreadable[0]}")
        if views.data is not None:
            yield views.data


def _require_one_size(sets: "list[Dataset]", metric: str) -> None:
    sizes = [tuple(dataset[0].data.shape[-2:]) for dataset in sets]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"{metric} compares images of one size: got {sizes[0][0]}x{sizes[0][1]} and {sizes[1][0]}x{sizes[1][1]};"
            " resizing would be part of the number"
        )


def _distance(first: GaussianStatistics, second: GaussianStatistics) -> float:
    return frechet_distance(first.mean, first.covariance(), second.mean, second.covariance())
