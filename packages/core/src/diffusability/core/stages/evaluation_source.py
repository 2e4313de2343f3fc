"""Makes the batches that evaluators see, and of each no more than what somebody needs."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import attrs
import torch
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.evaluator import EvaluationBatch
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.errors import DataError
from diffusability.core.numerics.finite import require_finite
from diffusability.core.sampling.generation import ImageGenerator
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.evaluation_fields import ENCODED, GENERATED, HELD_OUT, OF_IMAGES
from diffusability.core.stages.evaluation_data import EvaluationData, chunk_views, fixed_order


@attrs.frozen(kw_only=True, eq=False)
class Portion:
    """A batch that is to be made: which samples, and which fields of them."""

    indices: range
    needs: frozenset[str]


@attrs.frozen(kw_only=True, eq=False)
class Made:
    """A batch (None when none of its images could be read) and what to say of images that could not."""

    batch: EvaluationBatch | None
    unreadable: Sequence[str]


@attrs.define(kw_only=True, eq=False, slots=False)
class EvaluationSource:
    """Real images, and the models that encode, decode and generate. Models are made when they are first needed.

    Attributes:
        dataset: real images; the evaluated set is a fixed sample of them, the same for every variant.
        device: where to compute.
        make_autoencoder: gives the autoencoder, on the device, in eval mode.
        open_held_out: opens the other split of the real images; None where there is none.
        make_generator: gives what generates images, for a denoiser; it is handed this source's autoencoder, to decode.
        num_workers: loading processes.
    """

    dataset: Dataset
    device: torch.device
    make_autoencoder: Callable[[], Autoencoder]
    make_generator: Callable[[Autoencoder], ImageGenerator] | None = None
    open_held_out: Callable[[], Dataset] | None = None
    num_workers: int = 0

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder."""
        return self.make_autoencoder()

    @cached_property
    def generator(self) -> ImageGenerator:
        """What generates images."""
        assert self.make_generator is not None, "checked before: this stage has no denoiser"
        return self.make_generator(self.autoencoder)

    @cached_property
    def held_out(self) -> Dataset:
        """The other split of the real images."""
        assert self.open_held_out is not None, "checked before: only an evaluate stage has held-out images"
        return self.open_held_out()

    def num_samples(self, needs: frozenset[str], wanted: int) -> int:
        """How many samples an evaluator with these needs sees of those that it wants."""
        if needs & OF_IMAGES:
            wanted = min(wanted, len(self.dataset))
        return min(wanted, len(self.held_out)) if needs & HELD_OUT else wanted

    def batches(self, portions: Sequence[Portion]) -> Iterator[Made]:
        """The batches of these portions, in order.

        Raises:
            DataError: labels are needed and the data has none.
            NotFiniteError: images, or what a model makes of them, hold NaN or infinity.
        """
        loaded = self._loaded(portions, OF_IMAGES, lambda: self.dataset)
        held_out = self._loaded(portions, HELD_OUT, lambda: self.held_out)
        for portion in portions:
            others = next(held_out) if portion.needs & HELD_OUT else None
            further = () if others is None else tuple(others.unreadable)
            if not portion.needs & OF_IMAGES:
                batch = self._batch(portion.indices, portion.needs, None, None, others)
                yield Made(batch=batch, unreadable=further)
                continue
            data = next(loaded)
            if data.data is None:
                yield Made(batch=None, unreadable=(*data.unreadable, *further))
                continue
            if data.labels is None and "labels" in portion.needs:
                raise DataError("an evaluator needs labels, but this dataset has none")
            indices = [portion.indices[place] for place in data.kept]
            batch = self._batch(indices, portion.needs, data.data.to(self.device), data.labels, others)
            yield Made(batch=batch, unreadable=(*data.unreadable, *further))

    def _loaded(
        self, portions: Sequence[Portion], fields: frozenset[str], dataset: Callable[[], Dataset]
    ) -> Iterator[EvaluationData]:
        """The images of a set, for the portions that need one of these fields."""
        wanted = [portion.indices for portion in portions if portion.needs & fields]
        if not wanted:
            return
        order = fixed_order(dataset(), max(indices.stop for indices in wanted))
        chunks = [order[indices.start : indices.stop] for indices in wanted]
        yield from chunk_views(dataset(), chunks, self.num_workers)

    @torch.no_grad()
    def _batch(
        self,
        indices: Sequence[int],
        needs: frozenset[str],
        images: Images | None,
        labels: Tensor | None,
        held_out: EvaluationData | None,
    ) -> EvaluationBatch:
        posterior: Posterior | None = None
        latents: Latents | None = None
        reconstruction: Images | None = None
        if needs & ENCODED:
            assert images is not None
            require_finite(images, "images", indices)
            posterior = self.autoencoder.encode(images)
            latents = posterior.mode()
            if "reconstruction" in needs:
                require_finite(latents, "latents", indices)
                decoded = self.autoencoder.decode(latents).float()
                require_finite(decoded, "reconstructions", indices)  # the clamp would hide infinity
                reconstruction = decoded.clamp(-1, 1)
        made = self.generator.at(indices) if needs & GENERATED else None
        return EvaluationBatch(
            indices=indices,
            images=images,
            labels=None if labels is None else labels.to(self.device),
            posterior=posterior,
            latents=latents,
            reconstruction=reconstruction,
            autoencoder=self.autoencoder if "autoencoder" in needs else None,
            held_out=None if held_out is None or held_out.data is None else held_out.data.to(self.device),
            generated=None if made is None else made.images,
            generated_labels=None if made is None else made.labels,
            diffusion_model=self.generator.model if "diffusion_model" in needs else None,
            sampler=self.generator.sampler if "sampler" in needs else None,
        )
