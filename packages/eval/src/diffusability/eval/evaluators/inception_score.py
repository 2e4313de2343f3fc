"""Inception score of generated images."""

import numpy as np

from diffusability.core.evaluator import EvalResult
from diffusability.core.sample_values import SampleValues
from diffusability.eval.evaluators.sample_set import SampleSetEvaluator
from diffusability.eval.inception_score import inception_scores
from diffusability.eval.sample_set_specs import InceptionScoreSpec


class InceptionScore(SampleSetEvaluator[InceptionScoreSpec]):
    """``inception_score`` (Salimans et al. 2016): mean over splits of ``exp(mean KL(p(y|x), p(y)))``.

    Images are shuffled and split as torch-fidelity does. ``spread`` is the standard deviation over splits.
    """

    def __init__(self, spec: InceptionScoreSpec) -> None:
        super().__init__(spec)
        self.least = spec.splits

    def compute(self) -> list[EvalResult]:
        """The score. Raises DataError when there are fewer images than splits."""
        logits = self._store.vectors("generated", self.least)
        order = np.random.RandomState(self.spec.seed).permutation(len(logits))
        scores = inception_scores(logits[order], self.spec.splits)
        return [
            EvalResult(
                metric=self.spec.metric("inception_score"),
                value=float(scores.mean()),
                spread=float(scores.std(correction=0)) if len(scores) > 1 else None,
                higher_is_better=True,
                num_samples=len(logits),
                spec=self.settings(splits=self.spec.splits, seed=self.spec.seed, spread_over="splits"),
                values=SampleValues.without_groups(
                    range(len(scores)),
                    ((scores.sum() - scores) / max(1, len(scores) - 1)).tolist(),
                    [1] * len(scores),
                ),
            )
        ]
