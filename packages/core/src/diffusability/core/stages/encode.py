"""The encode stage: a dataset's latents, written once, shard by shard, by all ranks."""

from pathlib import Path

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.normalizer import ChannelStatistics, LatentNormalizer
from diffusability.core.data.latents.latent_cache import (
    CacheIndex,
    ShardOrigin,
    holds,
    open_shard,
    places_path,
    remove_shards_from,
    shard_statistics,
    write_index,
    write_shard,
)
from diffusability.core.data.latents.latent_origin import (
    autoencoder_origin,
    data_origin,
    indices_digest,
    normalizer_origin,
)
from diffusability.core.data.latents.place_statistics import PlaceStatistics
from diffusability.core.errors import SpecError
from diffusability.core.models.saved_models import save_autoencoder
from diffusability.core.numerics.precision import autocast_dtype, resolve_precision
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.planning.sample_counts import fewer
from diffusability.core.run.progress import StageProgress
from diffusability.core.specs.stages import EncodeStage
from diffusability.core.stages.decoder_reference import KEPT, keeps_autoencoder
from diffusability.core.stages.encoding import Encoder
from diffusability.core.stages.evaluation_data import fixed_order
from diffusability.core.stages.low_precision import LowPrecision
from diffusability.core.stages.runtime import StageRuntime
from diffusability.core.stages.unreadable import UnreadableFiles


def run_encode(stage: PlannedStage, runtime: StageRuntime, directory: Path) -> None:
    """Writes ``latents/``. Shards that are there already are kept.

    Raises:
        DataError: no image could be read, or too many could not; or a shard of an interrupted run was made with another
            autoencoder or in another precision.
        StoppedOnRequest: on all ranks, when a signal asked one of them for it.
    """
    spec = stage.spec
    assert isinstance(spec, EncodeStage)
    dataset = runtime.opened(stage, spec.split)
    autoencoder = runtime.autoencoder(spec.autoencoder, stage)
    random = spec.autoencoder.random_weights()
    if random:
        runtime.remark(stage, f"autoencoder {spec.autoencoder.kind!r} is untrained: {random} are random")
    published = _published(spec, autoencoder)
    cache = directory / "latents"
    cache.mkdir(exist_ok=True)
    order = fixed_order(dataset, spec.num_samples or len(dataset))
    if spec.num_samples is not None and len(order) < spec.num_samples:
        runtime.remark(stage, fewer(spec.num_samples, len(order), spec.split))
    shards = [order[first : first + spec.shard_size] for first in range(0, len(order), spec.shard_size)]
    device_type = runtime.ranks.device.type
    origins = _origins(stage, spec, autoencoder, shards, resolve_precision(spec.precision, device_type))
    dtype = autocast_dtype(spec.precision, device_type)
    own = range(runtime.ranks.rank, len(shards), runtime.ranks.size)
    by_place = spec.normalization == "measured-by-place"
    missing = [shard for shard in own if not holds(cache, shard, origins[shard], by_place)]
    kept = sum(len(shards[shard]) for shard in own if shard not in missing)
    total = sum(len(shards[shard]) for shard in own)
    unreadable = UnreadableFiles(directory, dataset, runtime.console)
    with StageProgress(runtime.console, stage.name, total, kept) as progress:
        encoder = Encoder(
            autoencoder=autoencoder if dtype is None else LowPrecision(autoencoder, dtype).eval(),
            device=runtime.ranks.device,
            dataset=dataset,
            batch_size=spec.batch_size,
            num_workers=stage.data.num_workers,
            flips=spec.flips,
            stop=runtime.stop,
            on_unreadable=unreadable.report,
            on_batch=lambda done: progress.update(kept + done),
            on_estimate=lambda estimate: runtime.console.print(f"  {stage.name}: {estimate}", highlight=False),
            num_samples=len(order),
            num_ranks=runtime.ranks.size,
            by_place=by_place,
        )
        for shard, encoded in encoder.shards({shard: shards[shard] for shard in missing}):
            if encoded.places is not None:  # before the shard: what is there is then complete
                encoded.places.write(places_path(cache, shard))
            write_shard(cache, shard, encoded.tensors(), encoded.statistics, origins[shard])
    runtime.stop.raise_together(runtime.ranks, "the shards that are finished are kept")
    if runtime.ranks.is_main:
        if keeps_autoencoder(spec.autoencoder):
            save_autoencoder(autoencoder, directory / KEPT)
        remove_shards_from(cache, len(shards))
        _write_index(stage, spec, autoencoder, published, dataset, cache, origins)


def _origins(
    stage: PlannedStage, spec: EncodeStage, autoencoder: Autoencoder, shards: list[list[int]], precision: str
) -> list[ShardOrigin]:
    """What each shard is made of."""
    made_by = autoencoder_origin(autoencoder, spec.autoencoder.kind)
    made_of = data_origin(stage.data, spec.split)
    return [
        ShardOrigin(autoencoder=made_by, data=made_of, indices=indices_digest(indices), precision=precision)
        for indices in shards
    ]


def _published(spec: EncodeStage, autoencoder: Autoencoder) -> LatentNormalizer | None:
    """The normaliser that comes with the autoencoder, where the spec asks for it. Raises SpecError if there is none."""
    if spec.normalization != "published":
        return None
    normalizer = autoencoder.published_normalizer()
    if normalizer is None:
        raise SpecError(
            f"normalization is 'published', and autoencoder {spec.autoencoder.kind!r} has no published scaling of its"
            " latents; expected 'measured'"
        )
    return normalizer


def _write_index(
    stage: PlannedStage,
    spec: EncodeStage,
    autoencoder: Autoencoder,
    published: LatentNormalizer | None,
    dataset: Dataset,
    cache: Path,
    origins: list[ShardOrigin],
) -> None:
    statistics = ChannelStatistics(autoencoder.info.latent_channels)
    readers = [open_shard(cache, shard) for shard in range(len(origins))]
    for reader in readers:
        statistics.merge(shard_statistics(reader))
    if spec.normalization == "measured-by-place":
        places = PlaceStatistics(readers[0].shape("mean"))
        for shard in range(len(readers)):
            places.merge(PlaceStatistics.read(places_path(cache, shard)))
        normalizer = places.normalizer()
    else:
        normalizer = published or statistics.normalizer()
    coarse = normalizer.per_channel()
    index = CacheIndex(
        shard_sizes=tuple(reader.num_rows for reader in readers),
        shape=readers[0].shape("mean"),
        deterministic="logvar" not in readers[0].tensors,
        flips=spec.flips,
        num_classes=dataset.num_classes,
        mean=tuple(coarse.mean.tolist()),
        std=tuple(coarse.std.tolist()),
        finer=normalizer.mean.ndim > 1,
        provenance={
            "autoencoder": origins[0].autoencoder.as_json(),
            "data": origins[0].data.as_json(),
            "normalizer": normalizer_origin(normalizer, spec.normalization).as_json(),
            "precision": origins[0].precision,
            "split": spec.split,
            "stage": stage.resolved(),
        },
    )
    write_index(cache, index, normalizer)
