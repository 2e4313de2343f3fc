"""Kernel inception distance."""

import numpy as np

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.feature_cache import FeatureCache
from diffusability.eval.features.feature_sets import feature_cache
from diffusability.eval.generation.kernel_distance import (
    FEWEST_FOR_A_SPREAD,
    kernel_sums,
    mmd_spread,
    mmd_without_each_pair,
    polynomial_kernel,
    unbiased_mmd,
)
from diffusability.eval.generation.sample_set import SampleSetEvaluator
from diffusability.eval.specs.generation import KIDSpec


class KID(SampleSetEvaluator[KIDSpec]):
    """``kid``: the unbiased squared MMD with kernel ``(x^T y / d + 1)^3`` (Binkowski et al. 2018), mean over subsets.

    Subsets are drawn as torch-fidelity draws them. ``spread`` is the standard deviation over subsets, which says how
    much the distance of ``subset_size`` images scatters; with ``spread: jackknife`` it is that of the distance of all
    images, by leaving out each in turn. With one subset of all images nothing is random.
    """

    def __init__(self, spec: KIDSpec, cache: FeatureCache | None = None) -> None:
        """Makes it; ``cache`` keeps the features of real images."""
        super().__init__(spec, cache)
        self.least = spec.subset_size if spec.spread == "subsets" else max(spec.subset_size, FEWEST_FOR_A_SPREAD)

    @classmethod
    def from_spec(cls, spec: KIDSpec, context: BuildContext) -> "KID":
        return cls(spec, feature_cache(context))

    def compute(self) -> list[EvalResult]:
        """The distance. Raises DataError when there are fewer images than in a subset."""
        real, generated = (self._store.vectors(which, self.least) for which in ("real", "generated"))
        draws = np.random.RandomState(self.spec.seed)
        values = []
        for _ in range(self.spec.subsets):
            chosen = [draws.choice(len(rows), self.spec.subset_size, replace=False) for rows in (generated, real)]
            values.append(unbiased_mmd(polynomial_kernel, generated[chosen[0]], real[chosen[1]]))
        sums = kernel_sums(polynomial_kernel, generated, real)
        if self.spec.spread == "jackknife":
            spread: float | None = mmd_spread(sums, unbiased=True)
        else:
            spread = float(np.std(values)) if len(values) > 1 else None
        return [
            EvalResult(
                metric=self.spec.metric("kid"),
                value=float(np.mean(values)),
                spread=spread,
                higher_is_better=False,
                num_samples=len(generated),
                spec=self.settings(
                    subsets=self.spec.subsets,
                    subset_size=self.spec.subset_size,
                    seed=self.spec.seed,
                    spread_over="subsets" if self.spec.spread == "subsets" else "jackknife of images",
                ),
                values=self._store.pair_values(mmd_without_each_pair(sums, unbiased=True)),
            )
        ]
