"""Features of the images of two sets, computed once for all evaluators of a stage that use them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import DataError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import FeaturesSpec
from diffusability.eval.features.feature_cache import FeatureCache

#: Batches whose features are remembered: the real and the other one, of the batch at hand.
_REMEMBERED = 2


class SharedFeatures:
    """A feature network, and the features of the batches it has seen last.

    Of a clip, an extractor of images sees one frame, drawn from the seed and the clip's index (Ge et al. 2024 and the
    FDD of clips do so). Features that are not finite are rejected.
    """

    def __init__(self, spec: FeaturesSpec, extractor: FeatureExtractor) -> None:
        self.spec = spec
        self.extractor = extractor.eval().requires_grad_(False)
        self._last: list[tuple[Tensor, int | None, Tensor]] = []

    @torch.no_grad()
    def extract(
        self, images: Images, indices: Sequence[int], seed: int = 0, cache: FeatureCache | None = None
    ) -> Float[Tensor, "b d"]:
        """Features of a batch of images or clips in [-1, 1].

        Args:
            images: the batch.
            indices: their places in the set.
            seed: draws the frames of clips.
            cache: stores the features of images that will be seen again. Not used for an extractor without
                ``settings``, since nothing says what its features depend on.

        Raises:
            DataError: an extractor of clips gets images, or the features are not finite.
        """
        drawn_from = seed if images.ndim == 5 and self.spec.takes == "images" else None
        for seen, used, remembered in self._last:
            if seen is images and used == drawn_from:
                return remembered
        seen_by_extractor = self._frames(images, indices, seed)
        settings = self.extractor.settings()
        if cache is None or not settings:
            features = self._compute(seen_by_extractor, indices)
        else:
            described = {"spec": self.spec.model_dump(mode="json"), **settings}
            features = cache.get_or_compute(seen_by_extractor, described, lambda batch: self._compute(batch, indices))
        self._last = [*self._last, (images, drawn_from, features)][-_REMEMBERED:]
        return features

    def _frames(self, images: Images, indices: Sequence[int], seed: int) -> Float[Tensor, "b c *frames h w"]:
        """The input of the extractor: the batch, or for an extractor of images a frame of each clip."""
        if self.spec.takes == "clips" and images.ndim != 5:
            raise DataError(f"features {self.spec.kind!r} are of clips, got images of shape {tuple(images.shape)!r}")
        if self.spec.takes == "images" and images.ndim == 5:
            frames = [derived_seed(seed, "frame", index) % images.shape[2] for index in indices]
            return torch.stack([clip[:, frame] for clip, frame in zip(images, frames, strict=True)])
        return images

    def _compute(self, images: Images, indices: Sequence[int]) -> Float[Tensor, "b d"]:
        features: Tensor = self.extractor.to(images.device)(images).float()
        bad = [index for index, row in zip(indices, features, strict=True) if not bool(row.isfinite().all())]
        if bad:
            raise DataError(
                f"features {self.spec.kind!r} of {len(bad)} images are not finite (the first at index {bad[0]}): the"
                " images hold NaN or infinity"
            )
        return features

    def settings(self) -> dict[str, Any]:
        """What defines the features, for results and reference statistics."""
        return {"features": self.spec.kind, **self.extractor.settings()}


@lru_cache(maxsize=8)
def _shared(spec: FeaturesSpec, dumped: str) -> SharedFeatures:
    return SharedFeatures(spec, spec.build(BuildContext()))


def shared_features(spec: FeaturesSpec) -> SharedFeatures:
    """The features that a spec names, one network for all who ask for the same. Raises what ``spec.build`` raises."""
    return _shared(spec, spec.model_dump_json())


def feature_cache(context: BuildContext) -> FeatureCache | None:
    """Where a run keeps the features of real images; None where there is no run."""
    folder = context.cache_directory
    return None if folder is None else FeatureCache(directory=folder / "features")
