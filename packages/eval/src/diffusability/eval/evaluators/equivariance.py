"""Equivariance of an encoder."""

from typing import Any

import torch

from diffusability.core.errors import DataError
from diffusability.core.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.sample_values import SampleValues
from diffusability.eval.predictor_specs import EquivarianceSpec
from diffusability.eval.predictors.bootstrap import bootstrap_spread
from diffusability.eval.predictors.equivariance_error import squared_error, transformations
from diffusability.eval.sample_table import SampleTable


class Equivariance(Evaluator):
    """``scale_equivariance_error`` and the same of rotation, flip and shift; 0 is equivariant, lower is better.

    The mean squared distance of ``Enc(T x)`` to ``T Enc(x)`` (posterior modes) over the variance of the latents, so
    that the scale of latents does not matter. Scaling is left out where half the image is not divisible by the
    autoencoder's factor.
    """

    needs = EquivarianceSpec.needs

    def __init__(self, spec: EquivarianceSpec) -> None:
        self.spec = spec
        self._table = SampleTable("equivariance")

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch."""
        assert batch.images is not None
        assert batch.latents is not None
        assert batch.autoencoder is not None
        factor = batch.autoencoder.info.spatial_factor
        flat = batch.latents.double().flatten(2)
        columns = {"mean": flat.mean(2), "square": flat.square().mean(2)}
        for name, transformation in transformations(factor).items():
            if name == "scale" and any(side % (2 * factor) for side in batch.images.shape[-2:]):
                continue
            transformed, expect = transformation(batch.images)
            encoded = batch.autoencoder.encode(transformed.contiguous()).mode()
            columns[name] = squared_error(encoded, expect(batch.latents))
        self._table.add(batch.indices, columns)

    def state(self) -> Any:
        return self._table.state()

    def merge(self, state: Any) -> None:
        self._table.merge(state)

    def compute(self) -> list[EvalResult]:
        columns = self._table.columns()
        mean, square = columns.pop("mean"), columns.pop("square")
        variance = (square.mean(0) - mean.mean(0).square()).mean()
        if not variance > 0:
            raise DataError("equivariance: the latents are constant, so no error can be related to their variance")
        results = []
        for name, errors in columns.items():

            def relative(chosen: torch.Tensor, errors: torch.Tensor = errors) -> float:
                return (errors[chosen].mean() / variance).item()

            results.append(
                EvalResult(
                    metric=f"{name}_equivariance_error",
                    value=relative(torch.arange(len(errors))),
                    higher_is_better=False,
                    num_samples=len(errors),
                    spread=bootstrap_spread(len(errors), relative, 200),
                    spec={"relative_to": "variance of the latents", "spread_over": "200 bootstrap samples"},
                    values=SampleValues.of_samples(self._table.indices, (errors / variance).tolist()),
                )
            )
        return results
