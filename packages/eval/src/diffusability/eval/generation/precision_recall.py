"""Precision and recall of generated images."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.feature_cache import FeatureCache
from diffusability.eval.features.feature_sets import feature_cache
from diffusability.eval.generation.sample_set import SampleSetEvaluator
from diffusability.eval.specs.generation import PrecisionRecallSpec

#: Distances that are held at once.
_MOST = 2**24


def _blocks(vectors: Float[Tensor, "a d"], others: int) -> tuple[Float[Tensor, "r d"], ...]:
    return torch.split(vectors, max(1, _MOST // max(1, others)))


def radii(vectors: Float[Tensor, "a d"], neighbours: int) -> Float[Tensor, " a"]:
    """The distance of each vector to the ``neighbours``-th nearest of the others."""
    return torch.cat(
        [torch.cdist(rows, vectors).kthvalue(neighbours + 1).values for rows in _blocks(vectors, len(vectors))]
    )


def covered(
    vectors: Float[Tensor, "a d"], centres: Float[Tensor, "b d"], reach: Float[Tensor, " b"]
) -> Bool[Tensor, " a"]:
    """Which vectors lie in at least one ball around the centres."""
    return torch.cat([(torch.cdist(rows, centres) <= reach).any(1) for rows in _blocks(vectors, len(centres))])


def covered_by_each_other(
    real: Float[Tensor, "a d"], generated: Float[Tensor, "b d"], neighbours: int = 3
) -> tuple[Bool[Tensor, " b"], Bool[Tensor, " a"]]:
    """Which generated samples lie within the real manifold, and which real ones within the generated, in float64.

    A manifold is the union of balls around samples that reach to their ``neighbours``-th nearest one. Each set has more
    than ``neighbours`` samples.
    """
    x, y = real.double(), generated.double()
    return covered(y, x, radii(x, neighbours)), covered(x, y, radii(y, neighbours))


def precision_and_recall(
    real: Float[Tensor, "a d"], generated: Float[Tensor, "b d"], neighbours: int = 3
) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, equations 1 and 2).

    Precision: the share of generated samples within the real manifold. Recall: the share of real samples within the
    generated manifold.
    """
    precise, recalled = covered_by_each_other(real, generated, neighbours)
    return float(precise.double().mean()), float(recalled.double().mean())


class PrecisionRecall(SampleSetEvaluator[PrecisionRecallSpec]):
    """``precision`` and ``recall`` (Kynkaanniemi et al. 2019), each from 0 to 1, by the 3 nearest neighbours.

    Precision tells of quality, recall of variety. Both depend on the number of images.
    """

    def __init__(self, spec: PrecisionRecallSpec, cache: FeatureCache | None = None) -> None:
        """Makes it; ``cache`` keeps the features of real images."""
        super().__init__(spec, cache)
        self.least = spec.neighbours + 1

    @classmethod
    def from_spec(cls, spec: PrecisionRecallSpec, context: BuildContext) -> "PrecisionRecall":
        return cls(spec, feature_cache(context))

    def compute(self) -> list[EvalResult]:
        """Both numbers. Raises DataError when there are no more images than neighbours."""
        real, generated = (self._store.vectors(which, self.least) for which in ("real", "generated"))
        precise, recalled = covered_by_each_other(real, generated, self.spec.neighbours)
        results = []
        for name, inside, indices in (
            ("precision", precise, self._store.generated),
            ("recall", recalled, self._store.real),
        ):
            value = float(inside.double().mean())
            values = SampleValues.from_samples(sorted(indices), inside.double().tolist())
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
