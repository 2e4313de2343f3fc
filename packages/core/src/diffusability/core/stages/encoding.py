"""Runs images through an autoencoder and gathers their posteriors, shard by shard."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.normalizer import ChannelStatistics
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.data.latents.place_statistics import PlaceStatistics
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.errors import DataError
from diffusability.core.stages.evaluation_data import EvaluationData, chunk_views


@attrs.define(kw_only=True, eq=False)
class EncodedShard:
    """The columns of one shard, growing batch by batch, and the statistics of its latents, also by place if asked."""

    statistics: ChannelStatistics
    places: PlaceStatistics | None = None
    columns: dict[str, list[Tensor]] = attrs.field(factory=dict)

    def add(self, name: str, values: Tensor) -> None:
        """Puts further rows under a column."""
        self.columns.setdefault(name, []).append(values)

    def tensors(self) -> dict[str, Tensor]:
        """The columns, whole."""
        return {name: torch.cat(parts) for name, parts in self.columns.items()}


@attrs.define(kw_only=True, eq=False)
class Encoder:
    """Encodes the fixed views of a dataset's examples.

    All shards go through one loader, so that its processes start once and load ahead across shards. Results of a batch
    are fetched from the device while the next one is under way.

    Attributes:
        autoencoder: on the device, in eval mode.
        device: where it computes.
        dataset: the images.
        batch_size: images of a batch; mirrored ones are a batch of their own.
        num_workers: loading processes.
        flips: also encode mirrored images.
        stop: whether the run was asked to stop; the shard under way is then given up.
        on_unreadable: told of images that cannot be read.
        on_batch: told how many images are done.
        on_estimate: told, after the first batch, in a sentence, how large the whole becomes and how long it takes.
        num_samples: images of all ranks.
        num_ranks: ranks that encode.
        by_place: also gather statistics of each place.
    """

    autoencoder: Autoencoder
    device: torch.device
    dataset: Dataset
    batch_size: int
    num_workers: int
    flips: bool
    stop: StopRequest
    on_unreadable: Callable[[Sequence[str]], None]
    on_batch: Callable[[int], None]
    on_estimate: Callable[[str], None]
    num_samples: int
    num_ranks: int
    by_place: bool = False
    _done: int = 0

    def shards(self, indices: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, EncodedShard]]:
        """The shards of these examples, in order, until a stop is asked for.

        Raises:
            DataError: no image of a shard could be read, or latents are not finite.
        """
        chunks = [
            (shard, list(rows[first : first + self.batch_size]))
            for shard, rows in indices.items()
            for first in range(0, len(rows), self.batch_size)
        ]
        left = {shard: -(-len(rows) // self.batch_size) for shard, rows in indices.items()}
        loaded = chunk_views(self.dataset, [rows for _, rows in chunks], self.num_workers, self.device.type == "cuda")
        current: EncodedShard | None = None
        num_left = sum(map(len, indices.values()))
        waiting: Callable[[], None] | None = None
        for (shard, rows), batch in zip(chunks, loaded, strict=True):
            if self.stop:
                return
            current = current or EncodedShard(statistics=ChannelStatistics(self.autoencoder.info.latent_channels))
            self.on_unreadable(batch.unreadable)
            started = time.perf_counter()
            fetch = self._encoded(batch, current)
            if waiting is not None:
                waiting()
            waiting = fetch
            left[shard] -= 1
            if left[shard] == 0 or self._done == 0:
                waiting()
                waiting = None
            if self._done == 0 and current.columns:
                self._estimate(current, len(rows), time.perf_counter() - started, num_left)
            self._done += len(rows)
            self.on_batch(self._done)
            if left[shard] == 0:
                if not current.columns:
                    raise DataError(f"none of the {len(indices[shard])} images of shard {shard} could be read")
                yield shard, current
                current = None

    def _encoded(self, batch: EvaluationData, into: EncodedShard) -> Callable[[], None]:
        """Starts the encoding of a batch; what is returned fetches the results and puts them into the shard."""
        if batch.data is None:
            return lambda: None
        images = batch.data.to(self.device, non_blocking=True)
        views = {"": images, "_flipped": images.flip(-1)} if self.flips else {"": images}
        with torch.inference_mode():
            posteriors = {suffix: self.autoencoder.encode(view) for suffix, view in views.items()}
            halves = {suffix: _halves(posterior) for suffix, posterior in posteriors.items()}

        def fetch() -> None:
            for suffix, posterior in posteriors.items():
                into.statistics.update(posterior)
                if self.by_place:
                    into.places = into.places or PlaceStatistics(posterior.mean.shape[1:])
                    into.places.update(posterior)
                for name, half in halves[suffix].items():
                    into.add(name + suffix, _finite(half.cpu()))
            if batch.labels is not None:
                into.add("label", batch.labels)

        return fetch

    def _estimate(self, shard: EncodedShard, count: int, seconds: float, num_left: int) -> None:
        bytes_each = sum(part[0].numel() * part.element_size() for parts in shard.columns.values() for part in parts)
        shape = "x".join(map(str, shard.columns["mean"][0].shape[1:]))
        what = "mean and log variance" if "logvar" in shard.columns else "mean"
        what += ", both flips" if self.flips else ""
        rate = count / seconds
        self.on_estimate(
            f"{self.num_samples} samples of {shape} ({what}, half precision) make"
            f" {self.num_samples * bytes_each / 2**30:.3g} GiB; the first batch ran at {rate:.3g} samples/s"
            f"{' a rank' if self.num_ranks > 1 else ''}: about {_duration(num_left / rate)}"
        )


def _halves(posterior: Posterior) -> dict[str, Tensor]:
    columns = {"mean": posterior.mean.half()}
    return columns if posterior.logvar is None else {**columns, "logvar": posterior.logvar.half()}


def _finite(half: Tensor) -> Tensor:
    """The values themselves. Latents beyond the range of half precision (65,504) would be infinite: refused."""
    if not bool(half.isfinite().all()):
        raise DataError("the autoencoder's latents are not finite in half precision; it may have diverged")
    return half


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
