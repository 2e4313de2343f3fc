"""Evenness of latents."""

import math
from collections.abc import Callable
from typing import Any

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.errors import DataError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.eval.predictors.standardization import ChannelScaling
from diffusability.eval.specs.predictors import UniformitySpec
from diffusability.eval.streaming.bootstrap import bootstrap_spread
from diffusability.eval.streaming.jackknife import without_each_part
from diffusability.eval.streaming.sample_table import SampleTable


@attrs.frozen(kw_only=True)
class Uniformity:
    """Statistics of densities: equal densities give 0, 0 and 1.

    Attributes:
        cv: coefficient of variation, standard deviation over mean.
        gini: Gini coefficient, in [0, 1).
        entropy: entropy of the normalised densities over its largest value, in [0, 1].
    """

    cv: float
    gini: float
    entropy: float


def embedded(points: Float[Tensor, "n d"], seed: int = 0) -> Float[Tensor, "n 2"]:
    """A t-SNE embedding (van der Maaten & Hinton 2008) into the plane, by scikit-learn."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, max(1.0, (len(points) - 1) / 3))
    embedding = TSNE(n_components=2, perplexity=perplexity, random_state=seed % 2**32, init="pca", n_jobs=1)
    return torch.from_numpy(embedding.fit_transform(points.float().cpu().numpy())).double()


def kernel_densities(points: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Gaussian kernel density at each of the points, with Scott's bandwidth (Scott 1992).

    The kernel has the points' covariance times ``n^(-2 / (d + 4))``.
    """
    values = points.double()
    count, dimension = values.shape
    covariance = values.T.cov().view(dimension, dimension) * count ** (-2 / (dimension + 4))
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), values.T, upper=False).T
    squared = torch.cdist(white, white).square()
    normalisation = torch.linalg.det(2 * torch.pi * covariance).sqrt()
    densities: Tensor = torch.exp(-squared / 2).mean(1) / normalisation
    return densities


def uniformity(densities: Float[Tensor, " n"]) -> Uniformity:
    """Coefficient of variation, Gini coefficient and normalised entropy of densities.

    Raises:
        ValueError: fewer than two.
    """
    count = len(densities)
    if count < 2:
        raise ValueError(f"evenness needs at least two points, got {count}")
    ordered = densities.double().sort().values
    total = ordered.sum()
    rank = torch.arange(1, count + 1, dtype=torch.float64)
    share = ordered / total
    entropy = -(share * share.clamp_min(1e-300).log()).sum() / torch.tensor(count, dtype=torch.float64).log()
    return Uniformity(
        cv=(ordered.std(correction=0) / ordered.mean()).item(),
        gini=(2 * (rank * ordered).sum() / (count * total) - (count + 1) / count).item(),
        entropy=entropy.item(),
    )


FEWEST_POINTS = 10


class LatentUniformity(Evaluator):
    """``density_cv``, ``density_gini`` (lower is more even) and ``density_entropy`` (higher is more even).

    Yao et al. 2025 (VA-VAE, arXiv 2501.01423): latent pixels are embedded into the plane by t-SNE and their density
    is estimated at each. As there, each channel is at mean 0 and variance 1 over the set before; constant channels are
    left out. Of each image the same number of places is drawn, ``num_points`` in all.
    """

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

    def statistic(chosen: Tensor) -> float:
        value: float = getattr(uniformity(densities[chosen]), name)
        return value

    return statistic
