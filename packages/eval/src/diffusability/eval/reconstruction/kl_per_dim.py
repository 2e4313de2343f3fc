"""How far the posterior is from the standard normal."""

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.errors import DataError
from diffusability.eval.specs.reconstruction import KLPerDimSpec
from diffusability.eval.streaming.sample_mean import SampleMean


class KLPerDim(Evaluator):
    """``kl_per_dim``: the mean over images and latent dimensions of the KL divergence to N(0, 1), in nats."""

    def __init__(self, spec: KLPerDimSpec) -> None:
        self.spec = spec
        self._mean = SampleMean()
        self._skipped = False

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch.

        Raises:
            DataError: the encoder is deterministic, and the spec does not skip those.
        """
        assert batch.posterior is not None
        if batch.posterior.logvar is None:
            if self.spec.deterministic == "skip":
                self._skipped = True
                return
            raise DataError(
                "evaluator 'kl-per-dim' needs a posterior with a variance, but this autoencoder's encoder is"
                " deterministic; leave the evaluator out"
            )
        self._mean.update(batch.indices, batch.posterior.kl_per_dim().double().flatten(1).mean(1))

    def state(self) -> SampleMean:
        return self._mean

    def merge(self, state: SampleMean) -> None:
        self._mean.merge(state)

    def compute(self) -> list[EvalResult]:
        if self._skipped:
            return []
        return [
            EvalResult(
                metric="kl_per_dim",
                value=self._mean.compute(),
                unit="nats",
                num_samples=self._mean.count,
                spread=self._mean.spread(),
                values=self._mean.values(),
            )
        ]
