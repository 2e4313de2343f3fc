"""The predictors that this package installs. Free of torch: what is built is imported when it is built."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from diffusability.core.extras import require_package
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.specs.metric_info import MetricInfo
from diffusability.core.specs.scorecard import ScorecardUse
from diffusability.eval.specs import predictor_metrics

if TYPE_CHECKING:
    pass


class VIVSpec(EvaluatorSpec):
    """Velocity irreducible variance of the latents, and how straight their diffusion trajectories are."""

    kind: Literal["viv"] = "viv"
    builds: ClassVar[str] = "diffusability.eval.predictors.viv:VIV"
    needs: ClassVar[frozenset[str]] = frozenset({"latents"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = predictor_metrics.VIV
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse()

    num_iterations: PositiveInt = Field(5, description="of the flip-flop fit of the Kronecker covariance")
    min_class_samples: int = Field(8, ge=2, description="classes with fewer samples are left out of the average")
    max_side: PositiveInt = Field(32, description="larger latents are cropped to their centre")
    num_replicates: int = Field(
        8, ge=0, description="groups of samples left out in turn, for spreads and differences; 0: none"
    )


class SpatialStructureSpec(EvaluatorSpec):
    """How the similarity of latent pixels falls with their distance: LDS, CDS and SRSS."""

    kind: Literal["spatial-structure"] = "spatial-structure"
    builds: ClassVar[str] = "diffusability.eval.predictors.spatial_structure:SpatialStructure"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = predictor_metrics.SPATIAL_STRUCTURE
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse(most_samples=128)

    num_samples: PositiveInt = Field(256, description="images that it sees; fewer when the data has fewer")
    far: int = Field(6, ge=2, description="Manhattan distance in latent pixels from which two places are distant")
    longest: int = Field(8, ge=2, description="largest distance of the line that CDS fits")


class NeighborConsistencySpec(EvaluatorSpec):
    """Whether latents that lie close together show the same class (LNC)."""

    kind: Literal["neighbor-consistency"] = "neighbor-consistency"
    builds: ClassVar[str] = "diffusability.eval.predictors.neighbor_consistency:NeighborConsistency"
    needs: ClassVar[frozenset[str]] = frozenset({"latents", "labels"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = predictor_metrics.NEIGHBOR_CONSISTENCY
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse()

    num_neighbors: PositiveInt = 10


class UniformitySpec(EvaluatorSpec):
    """How evenly latent pixels fill a two-dimensional embedding: density CV, Gini coefficient and entropy."""

    kind: Literal["uniformity"] = "uniformity"
    builds: ClassVar[str] = "diffusability.eval.predictors.uniformity:LatentUniformity"
    needs: ClassVar[frozenset[str]] = frozenset({"latents"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = predictor_metrics.UNIFORMITY
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse(brief_fields={"num_points": 1000})

    num_points: int = Field(10_000, ge=10, description="latent pixels that are embedded, at most")
    seed: int = Field(0, ge=0, description="of the places that are drawn and of the embedding")

    def check_inputs(self) -> None:
        require_package("sklearn", f"evaluator {self.kind!r}", "uniformity", "diffusability-eval")


class EquivarianceSpec(EvaluatorSpec):
    """Errors of exchanging encoding with scaling, rotation, flip and shift."""

    kind: Literal["equivariance"] = "equivariance"
    builds: ClassVar[str] = "diffusability.eval.predictors.equivariance:Equivariance"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents", "autoencoder"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = predictor_metrics.EQUIVARIANCE
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse(most_samples=16)

    num_samples: PositiveInt = Field(
        64, description="images that it sees; each is encoded once for each transformation"
    )


class InterpolationSpec(EvaluatorSpec):
    """How direct the way between two images is that decoding a straight line of latents takes."""

    kind: Literal["interpolation"] = "interpolation"
    builds: ClassVar[str] = "diffusability.eval.predictors.interpolation:Interpolation"
    needs: ClassVar[frozenset[str]] = frozenset({"latents", "reconstruction", "autoencoder"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = predictor_metrics.INTERPOLATION
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse(most_samples=8)

    num_samples: int = Field(32, ge=2, description="images that it sees, in pairs")
    num_steps: int = Field(4, ge=2, description="parts of the line; one decoding each, less one")
