"""The encode stage: a dataset's latents, written once, shard by shard, by all ranks."""

from pathlib import Path

import torch
from torch import Tensor

from diffusability.core.autoencoder import Autoencoder
from diffusability.core.data.latent_cache import (
    CacheIndex,
    is_whole,
    open_shard,
    shard_rows,
    shard_statistics,
    write_index,
    write_shard,
)
from diffusability.core.dataset import Dataset
from diffusability.core.errors import DataError, SpecError
from diffusability.core.normalizer import ChannelStatistics, LatentNormalizer
from diffusability.core.posterior import Posterior
from diffusability.core.progress import StageProgress
from diffusability.core.saved_models import build_autoencoder
from diffusability.core.specs.plan import PlannedStage
from diffusability.core.specs.stages import EncodeStage
from diffusability.core.stages.evaluation_data import fixed_order, views
from diffusability.core.stages.surroundings import Surroundings
from diffusability.core.stages.unreadable import UnreadableFiles


def run_encode(stage: PlannedStage, around: Surroundings, directory: Path) -> None:
    """Writes ``latents/``. Shards that are there already are kept.

    Raises:
        DataError: no image could be read, or too many could not.
        StoppedOnRequest: on all ranks, when a signal asked one of them for it.
    """
    spec = stage.spec
    assert isinstance(spec, EncodeStage)
    context = around.context(stage)
    dataset = stage.data.build(context, spec.split)
    autoencoder = around.frozen(build_autoencoder(spec.autoencoder, context))
    published = _published(spec, autoencoder)
    cache = directory / "latents"
    cache.mkdir(exist_ok=True)
    order = fixed_order(dataset, spec.num_samples or len(dataset))
    shards = [order[first : first + spec.shard_size] for first in range(0, len(order), spec.shard_size)]
    own = range(around.ranks.rank, len(shards), around.ranks.size)
    unreadable = UnreadableFiles(directory, dataset, around.console)
    with StageProgress(around.console, stage.name, sum(len(shards[shard]) for shard in own)) as progress:
        done = 0
        for shard in own:
            if not is_whole(cache, shard):
                if around.stop:
                    break
                _encode_shard(stage, spec, around, autoencoder, dataset, cache, shard, shards[shard], unreadable)
            done += len(shards[shard])
            progress.update(done)
    around.stop.raise_together(around.ranks, "the shards that are finished are kept")
    if around.ranks.is_main:
        _write_index(stage, spec, autoencoder, published, dataset, cache, len(shards))


def _published(spec: EncodeStage, autoencoder: Autoencoder) -> LatentNormalizer | None:
    """The normaliser that comes with the autoencoder, where the spec asks for it. Raises SpecError if there is none."""
    if spec.normalization == "measured":
        return None
    normalizer = autoencoder.published_normalizer()
    if normalizer is None:
        raise SpecError(
            f"normalization is 'published', and autoencoder {spec.autoencoder.kind!r} has no published scaling of its"
            " latents; expected 'measured'"
        )
    return normalizer


def _encode_shard(
    stage: PlannedStage,
    spec: EncodeStage,
    around: Surroundings,
    autoencoder: Autoencoder,
    dataset: Dataset,
    cache: Path,
    shard: int,
    indices: list[int],
    unreadable: UnreadableFiles,
) -> None:
    statistics = ChannelStatistics(autoencoder.info.latent_channels)
    columns: dict[str, list[Tensor]] = {}
    for batch in views(dataset, indices, spec.batch_size, stage.data.num_workers):
        unreadable.report(batch.unreadable)
        if batch.data is None:
            continue
        images = batch.data.to(around.ranks.device)
        for suffix, view in {"": images, "_flipped": images.flip(-1)}.items():
            if suffix and not spec.flips:
                continue
            posterior = _encode(autoencoder, view)
            statistics.update(posterior)
            columns.setdefault("mean" + suffix, []).append(_stored(posterior.mean))
            if posterior.logvar is not None:
                columns.setdefault("logvar" + suffix, []).append(_stored(posterior.logvar))
        if batch.labels is not None:
            columns.setdefault("label", []).append(batch.labels)
    if not columns:
        raise DataError(f"none of the {len(indices)} images of shard {shard} could be read")
    write_shard(cache, shard, {name: torch.cat(parts) for name, parts in columns.items()}, statistics)


@torch.no_grad()
def _encode(autoencoder: Autoencoder, images: Tensor) -> Posterior:
    return autoencoder.encode(images)


def _stored(values: Tensor) -> Tensor:
    """Half precision on the CPU. Latents beyond its range (65,504) would become infinite: refused."""
    half = values.half().cpu()
    if not bool(half.isfinite().all()):
        raise DataError("the autoencoder's latents are not finite in half precision; it may have diverged")
    return half


def _write_index(
    stage: PlannedStage,
    spec: EncodeStage,
    autoencoder: Autoencoder,
    published: LatentNormalizer | None,
    dataset: Dataset,
    cache: Path,
    num_shards: int,
) -> None:
    statistics = ChannelStatistics(autoencoder.info.latent_channels)
    for shard in range(num_shards):
        statistics.merge(shard_statistics(cache, shard))
    normalizer = published or statistics.normalizer()
    shape, deterministic = _shape(cache)
    index = CacheIndex(
        shard_sizes=tuple(shard_rows(cache, shard) for shard in range(num_shards)),
        shape=shape,
        deterministic=deterministic,
        flips=spec.flips,
        num_classes=dataset.num_classes,
        mean=tuple(normalizer.mean.tolist()),
        std=tuple(normalizer.std.tolist()),
        provenance={"stage": stage.resolved()},
    )
    write_index(cache, index)


def _shape(cache: Path) -> tuple[tuple[int, ...], bool]:
    with open_shard(cache, 0) as opened:
        return tuple(opened.get_slice("mean").get_shape()[1:]), "logvar" not in opened.keys()  # noqa: SIM118
