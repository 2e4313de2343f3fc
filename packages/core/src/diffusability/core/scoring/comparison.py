"""Distances between two sets of images that are there already; no run and no spec."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from pydantic import ValidationError
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.data.image_sets import IMAGES_NAME, ImageSet, names_in, open_image_set
from diffusability.core.errors import DataError, DiffusabilityError, PluginError, SpecError, nearest
from diffusability.core.plugins import registry
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import EvaluatorSpec, FeaturesSpec
from diffusability.core.specs.scorecard import ComparisonUse
from diffusability.core.stages.evaluation_data import chunk_views
from diffusability.core.stages.evaluation_results import described

#: Where statistics of real images are in ADM's files; they are of Inception's features.
_STATISTICS = ("mu", "sigma")


@attrs.frozen(kw_only=True)
class ComparisonOptions:
    """What the command line says of a comparison.

    Attributes:
        real: a folder of images, or an npz file with images (``arr_0``), statistics (``mu``, ``sigma``) or both.
        generated: a folder of images, or an npz file with images.
        features: feature networks, each ``KIND`` or ``KIND:FIELD=VALUE,...`` with fields of its spec.
        num: images of each set at most; None for all.
        resolution: side of the centre squares that are compared; None: images as they are.
        batch_size: images at a time.
        num_workers: loading processes.
        with_spread: whether distances that are costly to compute again without some images have a spread.
        device: where to compute.
        only: kinds of evaluators; None for all that compare sets of images.
    """

    real: Path
    generated: Path
    features: tuple[str, ...] = ("inception",)
    num: int | None = None
    resolution: int | None = None
    batch_size: int = 64
    num_workers: int = 0
    with_spread: bool = True
    device: str = "cpu"
    only: tuple[str, ...] | None = None


@attrs.frozen(kw_only=True, eq=False)
class Comparison:
    """What a comparison found.

    Attributes:
        results: the metrics.
        left_out: evaluators that could not take part, each with the reason.
        num_real: real images; None where a file with their statistics stands for them.
        num_generated: generated images.
        size: height and width of the images.
    """

    results: Sequence[EvalResult]
    left_out: Mapping[str, str]
    num_real: int | None
    num_generated: int
    size: tuple[int, int]


@attrs.frozen(kw_only=True, eq=False)
class _Taker:
    evaluator: Evaluator
    spec: EvaluatorSpec
    use: ComparisonUse


@torch.no_grad()
def compare_images(
    options: ComparisonOptions, on_batch: Callable[[int, int], None] = lambda done, total: None
) -> Comparison:
    """Compares generated with real images by all evaluators that can, each network seeing each image once.

    Args:
        options: what is compared, and how.
        on_batch: called with the images done so far, of how many.

    Raises:
        SpecError: a kind of features is unknown or lacks its weights, or an evaluator does not compare sets of images.
        DataError: an image cannot be read or has another size than the others, or nothing could be compared.
    """
    _refuse_unknown(options.only or ())
    networks = [_network(reference) for reference in options.features]
    generated = open_image_set(options.generated, options.resolution)
    real = _real_images(options)
    if real is not None and real.size != generated.size:
        raise DataError(
            f"real images have {real.size[0]}x{real.size[1]} pixels, generated ones"
            f" {generated.size[0]}x{generated.size[1]}; give a resolution to have all cropped and resized"
        )
    counts = [_count(images, options.num) for images in (real, generated) if images is not None]
    takers, left_out = _takers(options, networks, min(counts), max(counts), real is not None)
    if not takers:
        raise DataError("nothing can be compared: " + "; ".join(f"{name}: {why}" for name, why in left_out.items()))
    total, done = sum(counts), 0
    for batch in _batches(real, generated, options):
        for taker in takers:
            if taker.use.paired and (batch.images is None or batch.generated is None):
                continue
            taker.evaluator.update(batch)
        done += sum(len(images) for images in (batch.images, batch.generated) if images is not None)
        on_batch(done, total)
    results = [described(result, taker.spec, {}) for taker in takers for result in taker.evaluator.compute()]
    return Comparison(
        results=results,
        left_out=left_out,
        num_real=None if real is None else counts[0],
        num_generated=counts[-1],
        size=generated.size,
    )


def _count(images: ImageSet, most: int | None) -> int:
    return len(images) if most is None else min(most, len(images))


def _refuse_unknown(kinds: Sequence[str]) -> None:
    """Raises SpecError for evaluators that take no part in comparisons."""
    known = [kind for kind, _ in _comparing()]
    for kind in kinds:
        if kind not in known:
            raise SpecError(f"--only {kind}: {nearest(kind, known)}expected one of {', '.join(known)}")


def _comparing() -> Iterator[tuple[str, type[EvaluatorSpec]]]:
    """The kinds of evaluators that compare sets of images, with their spec classes."""
    for kind in registry.kinds("evaluators"):
        try:
            spec_class: type[EvaluatorSpec] = registry.load("evaluators", kind, EvaluatorSpec)
        except PluginError:
            continue  # `dfz plugins --check` names it
        if spec_class.comparison is not None:
            yield kind, spec_class


def _network(reference: str) -> FeaturesSpec:
    """The feature network that ``KIND`` or ``KIND:FIELD=VALUE,...`` names.

    Raises:
        SpecError: its kind or a field is unknown, or its weights or package are missing.
    """
    kind, _, rest = reference.partition(":")
    fields = dict(pair.partition("=")[::2] for pair in rest.split(",") if pair)
    try:
        spec = FeaturesSpec.model_validate({"kind": kind, **fields})
        spec.check_inputs()
    except ValidationError as error:
        raise SpecError(f"--features {reference}: {_first(error)}") from None
    except ValueError as error:
        raise SpecError(f"--features {reference}: {error}; other features: {_others(kind)}") from None
    return spec


def _first(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def _others(kind: str) -> str:
    """Kinds of features whose weights are there."""
    there = []
    for other in registry.kinds("features"):
        try:
            spec = registry.load("features", other, FeaturesSpec)()
            spec.check_inputs()
        except (PluginError, ValueError, DiffusabilityError):
            continue
        if other != kind and spec.takes == "images":
            there.append(other)
    return ", ".join(there) or "none whose weights are here"


def _statistics_file(path: Path) -> bool:
    return path.is_file() and set(_STATISTICS) <= set(names_in(path))


def _real_images(options: ComparisonOptions) -> ImageSet | None:
    """The real images; None where there are only their statistics."""
    if _statistics_file(options.real) and IMAGES_NAME not in names_in(options.real):
        return None
    return open_image_set(options.real, options.resolution)


def _takers(
    options: ComparisonOptions, networks: Sequence[FeaturesSpec], fewest: int, most: int, has_images: bool
) -> tuple[list[_Taker], dict[str, str]]:
    """The evaluators that take part, and those that cannot, with the reason."""
    takers, left_out = [], {}
    for settings, use in _wanted(options, networks, fewest):
        name = settings["kind"] + (f" of {settings['features'].label()}" if use.of_features else "")
        try:
            spec = EvaluatorSpec.model_validate({**settings, "num_samples": most})
            if not has_images and spec.needed() is not None and "images" in (spec.needed() or ()):
                left_out[name] = f"{str(options.real)!r} holds statistics of real images, and no images"
                continue
            spec.check_inputs()
            evaluator: Evaluator = spec.build(BuildContext())
            evaluator.expect(fewest)
        except ValidationError as error:
            left_out[name] = _first(error)
        except (ValueError, DiffusabilityError) as error:
            left_out[name] = str(error)
        else:
            takers.append(_Taker(evaluator=evaluator, spec=spec, use=use))
    return takers, left_out


def _wanted(
    options: ComparisonOptions, networks: Sequence[FeaturesSpec], fewest: int
) -> Iterator[tuple[dict[str, Any], ComparisonUse]]:
    """The specs of all evaluators that take part in comparisons, one for each network where they are of features."""
    for kind, spec_class in _comparing():
        use = spec_class.comparison
        if use is None or (options.only is not None and kind not in options.only):
            continue
        settings = {"kind": kind, **use.settings(fewest)}
        if not options.with_spread and "jackknife_groups" in spec_class.model_fields:
            settings["jackknife_groups"] = 0
        if not use.of_features:
            yield settings, use
            continue
        for network in networks:
            of_network = {**settings, "features": network}
            if (
                network.has_published_statistics()
                and "reference" in spec_class.model_fields
                and _statistics_file(options.real)
            ):
                of_network["reference"] = str(options.real)
            yield of_network, use


def _batches(real: ImageSet | None, generated: ImageSet, options: ComparisonOptions) -> Iterator[EvaluationBatch]:
    """Batches of both sets while both have images, then of the one that has more."""
    sides = {"images": real, "generated": generated}
    lengths = {name: _count(images, options.num) for name, images in sides.items() if images is not None}
    chunks = _chunks(lengths.values(), options.batch_size)
    loaded = {
        name: _loaded(images, [chunk for chunk in chunks if chunk.stop <= lengths[name]], options)
        for name, images in sides.items()
        if images is not None
    }
    for chunk in chunks:
        batch = {name: next(loaded[name]) for name, length in lengths.items() if chunk.stop <= length}
        yield EvaluationBatch(indices=chunk, images=batch.get("images"), generated=batch.get("generated"))


def _chunks(lengths: Sequence[int] | Any, size: int) -> list[range]:
    """Batches that end where a set ends."""
    chunks, start = [], 0
    for stop in sorted(set(lengths)):
        chunks += [range(first, min(first + size, stop)) for first in range(start, stop, size)]
        start = stop
    return chunks


def _loaded(images: ImageSet, chunks: Sequence[range], options: ComparisonOptions) -> Iterator[Tensor]:
    pinned = options.device.startswith("cuda")
    for batch in chunk_views(images, chunks, options.num_workers, pin_memory=pinned):
        if batch.unreadable:
            raise DataError(f"{str(images.source)!r}: {batch.unreadable[0]}")
        assert batch.data is not None
        yield batch.data.to(options.device, non_blocking=pinned)
