"""Precision and recall of generated images."""

from diffusability.core.evaluator import EvalResult
from diffusability.eval.evaluators.sample_set import SampleSetEvaluator
from diffusability.eval.feature_cache import FeatureCache
from diffusability.eval.manifolds import precision_and_recall
from diffusability.eval.sample_set_specs import PrecisionRecallSpec


class PrecisionRecall(SampleSetEvaluator[PrecisionRecallSpec]):
    """``precision`` and ``recall`` (Kynkaanniemi et al. 2019), each from 0 to 1, by the 3 nearest neighbours.

    Precision tells of quality, recall of variety. Both depend on the number of images.
    """

    def __init__(self, spec: PrecisionRecallSpec, cache: FeatureCache | None = None) -> None:
        """Makes it; ``cache`` keeps the features of real images."""
        super().__init__(spec, cache)
        self.least = spec.neighbours + 1

    def compute(self) -> list[EvalResult]:
        """Both numbers. Raises DataError when there are no more images than neighbours."""
        real, generated = (self._store.vectors(which, self.least) for which in ("real", "generated"))
        values = precision_and_recall(real, generated, self.spec.neighbours)
        return [
            EvalResult(
                metric=self.spec.metric(name),
                value=value,
                higher_is_better=True,
                num_samples=len(generated),
                spec=self.settings(neighbours=self.spec.neighbours),
            )
            for name, value in zip(("precision", "recall"), values, strict=True)
        ]
