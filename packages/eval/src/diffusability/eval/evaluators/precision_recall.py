"""Precision and recall of generated images."""

from diffusability.core.evaluator import EvalResult
from diffusability.core.sample_values import SampleValues
from diffusability.eval.evaluators.sample_set import SampleSetEvaluator
from diffusability.eval.feature_cache import FeatureCache
from diffusability.eval.manifolds import covered_by_each_other
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
        precise, recalled = covered_by_each_other(real, generated, self.spec.neighbours)
        results = []
        for name, inside, of in (
            ("precision", precise, self._store.generated),
            ("recall", recalled, self._store.real),
        ):
            value = float(inside.double().mean())
            values = SampleValues.of_samples(sorted(of), inside.double().tolist())
            results.append(
                EvalResult(
                    metric=self.spec.metric(name),
                    value=value,
                    higher_is_better=True,
                    num_samples=len(generated),
                    spread=values.spread(value),
                    spec=self.settings(
                        neighbours=self.spec.neighbours,
                        spread_over="bootstrap samples, within the manifolds as they are",
                    ),
                    values=values,
                )
            )
        return results
