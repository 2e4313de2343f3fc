"""Evenness of latents."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.seeds import derived_seed
from diffusability.eval.jackknife import without_each_part
from diffusability.eval.predictor_specs import UniformitySpec
from diffusability.eval.predictors.bootstrap import bootstrap_spread
from diffusability.eval.predictors.standardization import ChannelScaling
from diffusability.eval.predictors.uniformity import embedded, kernel_densities, uniformity
from diffusability.eval.sample_table import SampleTable

FEWEST_POINTS = 10


class LatentUniformity(Evaluator):
    """``density_cv``, ``density_gini`` (lower is more even) and ``density_entropy`` (higher is more even).

    Yao et al. 2025 (VA-VAE, arXiv 2501.01423): latent pixels are embedded into the plane by t-SNE and their density
    is estimated at each. As there, each channel is at mean 0 and variance 1 over the set before; constant channels are
    left out. Of each image the same number of places is drawn, ``num_points`` in all.
    """

    needs = UniformitySpec.needs

    def __init__(self, spec: UniformitySpec) -> None:
        self.spec = spec
        self._table = SampleTable("uniformity")

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch."""
        assert batch.latents is not None
        count = math.ceil(self.spec.num_points / self.spec.num_samples)
        flat = batch.latents.float().flatten(2).transpose(1, 2).cpu()
        drawn = [
            pixels[self._places(index, count, len(pixels))] for index, pixels in zip(batch.indices, flat, strict=True)
        ]
        every = batch.latents.double().flatten(2)
        moments = {"mean": every.mean(2), "square": every.square().mean(2)}
        self._table.add(batch.indices, {"points": torch.stack(drawn), **moments})

    def _places(self, index: int, count: int, size: int) -> Tensor:
        generator = torch.Generator().manual_seed(derived_seed(self.spec.seed, "uniformity", index))
        return torch.randperm(size, generator=generator)[:count]

    def state(self) -> Any:
        return self._table.state()

    def merge(self, state: Any) -> None:
        self._table.merge(state)

    def compute(self) -> list[EvalResult]:
        columns = self._table.columns()
        scaling = ChannelScaling.from_moments(columns["mean"].mean(0), columns["square"].mean(0), "uniformity")
        points = scaling(columns["points"].flatten(0, 1)[: self.spec.num_points])
        places = [index for index in self._table.indices for _ in range(columns["points"].shape[1])][: len(points)]
        different = len(torch.unique(points, dim=0))
        if different < FEWEST_POINTS:
            raise DataError(
                f"uniformity needs at least {FEWEST_POINTS} different latent pixels,"
                f" got {different} among {len(points)}"
            )
        densities = kernel_densities(embedded(points, self.spec.seed))
        value = uniformity(densities)
        settings = {
            "num_points": len(points),
            "channels": "standardised over all images",
            "embedding": "t-SNE",
            "bandwidth": "Scott",
            "seed": self.spec.seed,
            "spread_over": "100 bootstrap samples of the densities",
        }
        return [
            EvalResult(
                metric=f"density_{name}",
                value=getattr(value, name),
                higher_is_better=higher,
                num_samples=len(self._table),
                spread=bootstrap_spread(len(densities), _statistic(densities, name), 100),
                spec=settings,
                note=scaling.note,
                values=without_each_part(places, _statistic(densities, name)),
            )
            for name, higher in (("cv", False), ("gini", False), ("entropy", True))
        ]


def _statistic(densities: Tensor, name: str) -> Callable[[Tensor], float]:
    """One of the statistics of a sample of the densities."""

    def of(chosen: Tensor) -> float:
        value: float = getattr(uniformity(densities[chosen]), name)
        return value

    return of
