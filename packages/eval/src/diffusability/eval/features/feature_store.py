"""The feature vectors of two sets, kept until all are there, for measures that compare samples one by one."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import EvaluationBatch
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.errors import DataError
from diffusability.eval.features.feature_cache import FeatureCache
from diffusability.eval.features.feature_sets import SharedFeatures


class FeatureStore:
    """Features by index, in float32 on the CPU: memory is one vector for each sample that the evaluator asked for.

    Attributes:
        real: of real images, by index.
        generated: of generated images, by index.
        size: height and width of all images.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.real: dict[int, Tensor] = {}
        self.generated: dict[int, Tensor] = {}
        self.size: tuple[int, int] | None = None

    def add(
        self,
        features: SharedFeatures,
        batch: EvaluationBatch,
        seed: int,
        with_real: bool = True,
        cache: FeatureCache | None = None,
    ) -> None:
        """Adds a batch; ``cache`` keeps the features of real images.

        Raises:
            DataError: images differ in size, or features are not finite.
        """
        real = batch.images if with_real else None
        for images, rows, kept in ((real, self.real, cache), (batch.generated, self.generated, None)):
            if images is not None:
                self._expect((images.shape[-2], images.shape[-1]))
                vectors = features.extract(images, batch.indices, seed, kept).cpu()
                rows |= dict(zip(batch.indices, vectors, strict=True))

    def _expect(self, size: tuple[int, int]) -> None:
        if self.size is not None and size != self.size:
            raise DataError(
                f"{self.name} compares images of one size: got images of {size[0]}x{size[1]} and of"
                f" {self.size[0]}x{self.size[1]}; resizing would be part of the number"
            )
        self.size = size

    def merge(self, other: "FeatureStore") -> None:
        """Adds what another rank has seen."""
        if other.size is not None:
            self._expect(other.size)
        self.real |= other.real
        self.generated |= other.generated

    def pair_values(self, without_each: Float[Tensor, " n"] | None) -> SampleValues | None:
        """A metric without each pair of a real and a generated image, as a result keeps it.

        None where there is none, and where the two sets are not of the same places.
        """
        places = sorted(self.generated)
        if without_each is None or places != sorted(self.real):
            return None
        return SampleValues.without_groups(places, without_each.tolist(), [1] * len(places))

    def vectors(self, which: str, least: int) -> Float[Tensor, "n d"]:
        """The ``real`` or ``generated`` features, by index.

        Raises:
            DataError: there are fewer than ``least``.
        """
        rows = self.real if which == "real" else self.generated
        if len(rows) < least:
            raise DataError(f"{self.name} needs at least {least} {which} images, got {len(rows)}")
        return torch.stack([rows[index] for index in sorted(rows)])
