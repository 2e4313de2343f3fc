"""The inception score of logits."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


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
