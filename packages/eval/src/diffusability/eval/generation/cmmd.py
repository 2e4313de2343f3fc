"""CLIP maximum mean discrepancy."""

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.feature_sets import feature_cache
from diffusability.eval.generation.kernel_distance import (
    FEWEST_FOR_A_SPREAD,
    gaussian_kernel,
    kernel_sums,
    mmd_of_sums,
    mmd_spread,
    mmd_without_each_pair,
)
from diffusability.eval.generation.sample_set import SampleSetEvaluator
from diffusability.eval.specs.generation import CMMDSpec

#: The paper reports thousandths.
SCALE = 1000.0


class CMMD(SampleSetEvaluator[CMMDSpec]):
    """``cmmd``: a thousand times the squared MMD with a Gaussian kernel of width 10 (Jayasumana et al. 2024).

    Over all pairs, each sample with itself among them, as in the authors' code. No assumption of normality. The spread
    is that of leaving out each image in turn (jackknife); none of fewer than three images of a set.
    """

    @classmethod
    def from_spec(cls, spec: CMMDSpec, context: BuildContext) -> "CMMD":
        return cls(spec, feature_cache(context))

    def compute(self) -> list[EvalResult]:
        """The distance. Raises DataError when there are fewer than two images of a set."""
        real, generated = (self._store.vectors(which, self.least) for which in ("real", "generated"))
        sums = kernel_sums(gaussian_kernel(self.spec.sigma), real, generated)
        left_out = mmd_without_each_pair(sums, unbiased=False)
        enough = min(len(real), len(generated)) >= FEWEST_FOR_A_SPREAD
        return [
            EvalResult(
                metric=self.spec.metric("cmmd"),
                value=SCALE * mmd_of_sums(sums, unbiased=False),
                spread=SCALE * mmd_spread(sums, unbiased=False) if enough else None,
                unit="1e-3",
                higher_is_better=False,
                num_samples=len(generated),
                spec=self.settings(sigma=self.spec.sigma, spread_over="jackknife of images"),
                values=self._store.pair_values(None if left_out is None else SCALE * left_out),
            )
        ]
