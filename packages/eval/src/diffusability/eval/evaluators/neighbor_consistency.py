"""Classes of neighbouring latents."""

from typing import Any

import torch

from diffusability.core.errors import DataError
from diffusability.core.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.sample_values import SampleValues
from diffusability.eval.predictor_specs import NeighborConsistencySpec
from diffusability.eval.predictors.bootstrap import spread_of_mean
from diffusability.eval.predictors.neighbors import neighbor_consistency
from diffusability.eval.sample_table import SampleTable


class NeighborConsistency(Evaluator):
    """``lnc``: the share of a latent's nearest neighbours that have its label, in [0, 1]; more is better.

    arXiv 2606.03578, "Semantic separability", without its foreground masks: latents are averaged over all places and
    compared by cosine. ``chance`` in the results' spec is what latents that know nothing of classes would give.
    """

    needs = NeighborConsistencySpec.needs

    def __init__(self, spec: NeighborConsistencySpec) -> None:
        self.spec = spec
        self._table = SampleTable("neighbor-consistency")

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch."""
        assert batch.latents is not None
        assert batch.labels is not None
        self._table.add(
            batch.indices, {"vectors": batch.latents.double().flatten(2).mean(2), "labels": batch.labels.long()}
        )

    def state(self) -> Any:
        return self._table.state()

    def merge(self, state: Any) -> None:
        self._table.merge(state)

    def compute(self) -> list[EvalResult]:
        columns = self._table.columns()
        labels = columns["labels"]
        try:
            consistency = neighbor_consistency(columns["vectors"], labels, self.spec.num_neighbors)
        except ValueError as error:
            raise DataError(f"neighbor-consistency: {error}") from None
        shares = torch.bincount(labels).double() / len(labels)
        return [
            EvalResult(
                metric="lnc",
                value=consistency.mean().item(),
                higher_is_better=True,
                num_samples=len(labels),
                spread=spread_of_mean(consistency),
                spec={
                    "num_neighbors": self.spec.num_neighbors,
                    "chance": shares.square().sum().item(),
                    "spread_over": "200 bootstrap samples",
                },
                values=SampleValues.of_samples(self._table.indices, consistency.tolist()),
            )
        ]
