"""What evaluators have in common that keep the features of both sets until the end."""

from typing import Any, Generic, TypeVar

from diffusability.core.contracts.evaluator import EvaluationBatch, Evaluator
from diffusability.core.errors import DataError
from diffusability.eval.features.feature_cache import FeatureCache
from diffusability.eval.features.feature_sets import shared_features
from diffusability.eval.features.feature_store import FeatureStore
from diffusability.eval.specs.generation import SampleSetSpec

SpecType = TypeVar("SpecType", bound=SampleSetSpec)


class SampleSetEvaluator(Evaluator, Generic[SpecType]):
    """Keeps features; a subclass computes from them. Memory is ``num_samples`` feature vectors of each set.

    What is random depends on the seed and on the order of indices, not on batches and ranks.
    """

    #: Fewest images of each set for which there is a number.
    least = 2

    def __init__(self, spec: SpecType, cache: FeatureCache | None = None) -> None:
        """Makes it; ``cache`` keeps the features of real images."""
        self.spec = spec
        self._cache = cache
        self.needs = spec.needs
        self._features = shared_features(spec.features)
        self._store = FeatureStore(spec.kind)

    def expect(self, num_samples: int) -> None:
        if num_samples < self.least:
            raise DataError(f"{self.spec.kind} needs at least {self.least} images of each set, got {num_samples}")

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch. Raises DataError when images differ in size or features are not finite."""
        self._store.add(self._features, batch, self.spec.seed, "images" in self.needs, self._cache)

    def state(self) -> FeatureStore:
        return self._store

    def merge(self, state: FeatureStore) -> None:
        self._store.merge(state)

    def settings(self, **more: Any) -> dict[str, Any]:
        """What the number depends on."""
        return {**self._features.settings(), "image_size": list(self._store.size or ()), **more}
