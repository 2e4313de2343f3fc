"""Inception score of generated images."""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.eval.generation.sample_set import SampleSetEvaluator
from diffusability.eval.specs.generation import InceptionScoreSpec


def inception_scores(logits: Float[Tensor, "n k"], splits: int) -> Float[Tensor, " splits"]:
    """``exp(mean_x KL(p(y|x), p(y)))`` of each of so many consecutive parts (Salimans et al. 2016), in float64.

    At least 1, at most the number of classes. As many samples as splits or more.
    """
    count = len(logits)
    edges = [index * count // splits for index in range(splits + 1)]
    scores = []
    for start, stop in pairwise(edges):
        log_given = logits[start:stop].double().log_softmax(1)
        given = log_given.exp()
        log_marginal = given.mean(0).log()
        # A class of probability 0 in all samples adds nothing.
        terms = torch.where(given > 0, given * (log_given - log_marginal), torch.zeros_like(given))
        scores.append(terms.sum(1).mean().exp())
    return torch.stack(scores)


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
