"""Classes of neighbouring latents."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.errors import DataError
from diffusability.eval.predictors.standardization import ChannelScaling
from diffusability.eval.specs.predictors import NeighborConsistencySpec
from diffusability.eval.streaming.bootstrap import spread_of_mean
from diffusability.eval.streaming.sample_table import SampleTable


def neighbor_consistency(
    vectors: Float[Tensor, "n d"], labels: Int[Tensor, " n"], num_neighbors: int = 10
) -> Float[Tensor, " n"]:
    """LNC of each sample: the share of its nearest neighbours, by cosine, that carry its label.

    "Diffusing in the Right Space" (arXiv 2606.03578), "Semantic separability". Chance level is the share of the class.
    Cosines are those of the vectors as they are: a large common mean makes all of them nearly 1.

    Raises:
        ValueError: not more samples than neighbours.
    """
    count = len(vectors)
    if count <= num_neighbors:
        raise ValueError(f"{num_neighbors} neighbours need more than {num_neighbors} samples, got {count}")
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-torch.inf)
    nearest = similarity.topk(num_neighbors, dim=1).indices
    return (labels[nearest] == labels[:, None]).double().mean(1)


class NeighborConsistency(Evaluator):
    """``lnc``: the share of a latent's nearest neighbours that have its label, in [0, 1]; more is better.

    arXiv 2606.03578, "Semantic separability", without its foreground masks: latents are averaged over all places and
    compared by cosine. ``lnc`` takes latents as a denoiser sees them, each channel at mean 0 and variance 1 over the
    set, without constant channels; ``lnc_raw`` takes raw latents, as in the paper. ``chance`` in the results' spec is
    what latents that know nothing of classes would give.
    """

    def __init__(self, spec: NeighborConsistencySpec) -> None:
        self.spec = spec
        self._table = SampleTable("neighbor-consistency")

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch."""
        assert batch.latents is not None
        assert batch.labels is not None
        flat = batch.latents.double().flatten(2)
        self._table.add(
            batch.indices,
            {"vectors": flat.mean(2), "square": flat.square().mean(2), "labels": batch.labels.long()},
        )

    def state(self) -> Any:
        return self._table.state()

    def merge(self, state: Any) -> None:
        self._table.merge(state)

    def compute(self) -> list[EvalResult]:
        columns = self._table.columns()
        labels, vectors = columns["labels"], columns["vectors"]
        scaling = ChannelScaling.from_moments(vectors.mean(0), columns["square"].mean(0), "neighbor-consistency")
        shares = torch.bincount(labels).double() / len(labels)
        return [
            self._result("lnc", scaling(vectors), labels, shares, scaling.note),
            self._result("lnc_raw", vectors, labels, shares, ""),
        ]

    def _result(self, metric: str, vectors: Tensor, labels: Tensor, shares: Tensor, note: str) -> EvalResult:
        try:
            consistency = neighbor_consistency(vectors, labels, self.spec.num_neighbors)
        except ValueError as error:
            raise DataError(f"neighbor-consistency: {error}") from None
        return EvalResult(
            metric=metric,
            value=consistency.mean().item(),
            higher_is_better=True if metric == "lnc" else None,
            num_samples=len(labels),
            spread=spread_of_mean(consistency),
            spec={
                "num_neighbors": self.spec.num_neighbors,
                "chance": shares.square().sum().item(),
                "channels": "standardised over all images" if metric == "lnc" else "raw",
                "spread_over": "200 bootstrap samples",
            },
            note=note,
            values=SampleValues.from_samples(self._table.indices, consistency.tolist()),
        )
