"""Total variation of the latents, as a metric."""

from typing import ClassVar, Literal

from diffusability.core import EvalResult, Evaluator, EvaluatorSpec, MetricInfo, ScorecardUse


class LatentVariation(Evaluator):
    def __init__(self, spec):
        self.values = []

    def update(self, batch):
        for latents in batch.latents:
            self.values.append((latents.diff(dim=-1).abs().mean() + latents.diff(dim=-2).abs().mean()).item())

    def compute(self):
        count = len(self.values)
        value = sum(self.values) / count
        return [EvalResult(metric="latent_variation", value=value, higher_is_better=False, num_samples=count)]


class LatentVariationSpec(EvaluatorSpec):
    """Mean absolute difference of neighbouring latents."""

    kind: Literal["latent-variation"] = "latent-variation"
    builds = "diffusability_latent_variation:LatentVariation"
    needs = frozenset({"latents"})
    scorecard = ScorecardUse()
    metrics: ClassVar = {
        "latent_variation": MetricInfo(
            label="Latent TV",
            meaning="mean absolute difference of neighbouring latents",
            judges="latents",
            group="spectrum",
            rank=205,
            headline=5,
        )
    }
