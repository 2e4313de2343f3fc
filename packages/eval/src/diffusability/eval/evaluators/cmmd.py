"""CLIP maximum mean discrepancy."""

from diffusability.core.evaluator import EvalResult
from diffusability.eval.evaluators.sample_set import SampleSetEvaluator
from diffusability.eval.kernel_distance import biased_mmd, gaussian_kernel
from diffusability.eval.sample_set_specs import CMMDSpec

#: The paper reports thousandths.
SCALE = 1000.0


class CMMD(SampleSetEvaluator[CMMDSpec]):
    """``cmmd``: a thousand times the squared MMD with a Gaussian kernel of width 10 (Jayasumana et al. 2024).

    Over all pairs, each sample with itself among them, as in the authors' code. No assumption of normality.
    """

    def compute(self) -> list[EvalResult]:
        """The distance. Raises DataError when there are fewer than two images of a set."""
        real, generated = (self._store.vectors(which, self.least) for which in ("real", "generated"))
        return [
            EvalResult(
                metric=self.spec.metric("cmmd"),
                value=SCALE * biased_mmd(gaussian_kernel(self.spec.sigma), real, generated),
                unit="1e-3",
                higher_is_better=False,
                num_samples=len(generated),
                spec=self.settings(sigma=self.spec.sigma),
            )
        ]
