"""The predictors that this package installs. Free of torch: what is built is imported when it is built."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import EvaluatorSpec

if TYPE_CHECKING:
    from diffusability.eval.predictors.equivariance import Equivariance
    from diffusability.eval.predictors.interpolation import Interpolation
    from diffusability.eval.predictors.neighbor_consistency import NeighborConsistency
    from diffusability.eval.predictors.spatial_structure import SpatialStructure
    from diffusability.eval.predictors.uniformity import LatentUniformity
    from diffusability.eval.predictors.viv import VIV


class VIVSpec(EvaluatorSpec):
    """Velocity irreducible variance of the latents, and how straight their diffusion trajectories are."""

    kind: Literal["viv"] = "viv"
    needs: ClassVar[frozenset[str]] = frozenset({"latents"})

    num_iterations: PositiveInt = Field(5, description="of the flip-flop fit of the Kronecker covariance")
    min_class_samples: int = Field(8, ge=2, description="classes with fewer samples are left out of the average")
    max_side: PositiveInt = Field(32, description="larger latents are cropped to their centre")
    num_replicates: int = Field(8, ge=0, description="groups of samples left out in turn for the spread; 0 for none")

    def build(self, context: BuildContext) -> "VIV":
        from diffusability.eval.predictors.viv import VIV

        return VIV(self)


class SpatialStructureSpec(EvaluatorSpec):
    """How the similarity of latent pixels falls with their distance: LDS, CDS and SRSS."""

    kind: Literal["spatial-structure"] = "spatial-structure"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})

    num_samples: PositiveInt = Field(256, description="images that it sees; fewer when the data has fewer")
    far: int = Field(6, ge=2, description="Manhattan distance in latent pixels from which two places are distant")
    longest: int = Field(8, ge=2, description="largest distance of the line that CDS fits")

    def build(self, context: BuildContext) -> "SpatialStructure":
        from diffusability.eval.predictors.spatial_structure import SpatialStructure

        return SpatialStructure(self)


class NeighborConsistencySpec(EvaluatorSpec):
    """Whether latents that lie close together show the same class (LNC)."""

    kind: Literal["neighbor-consistency"] = "neighbor-consistency"
    needs: ClassVar[frozenset[str]] = frozenset({"latents", "labels"})

    num_neighbors: PositiveInt = 10

    def build(self, context: BuildContext) -> "NeighborConsistency":
        from diffusability.eval.predictors.neighbor_consistency import NeighborConsistency

        return NeighborConsistency(self)


class UniformitySpec(EvaluatorSpec):
    """How evenly latent pixels fill a two-dimensional embedding: density CV, Gini coefficient and entropy."""

    kind: Literal["uniformity"] = "uniformity"
    needs: ClassVar[frozenset[str]] = frozenset({"latents"})

    num_points: int = Field(10_000, ge=10, description="latent pixels that are embedded, at most")
    seed: int = Field(0, ge=0, description="of the places that are drawn and of the embedding")

    def build(self, context: BuildContext) -> "LatentUniformity":
        from diffusability.eval.predictors.uniformity import LatentUniformity

        return LatentUniformity(self)


class EquivarianceSpec(EvaluatorSpec):
    """Errors of exchanging encoding with scaling, rotation, flip and shift."""

    kind: Literal["equivariance"] = "equivariance"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents", "autoencoder"})

    num_samples: PositiveInt = Field(
        64, description="images that it sees; each is encoded once for each transformation"
    )

    def build(self, context: BuildContext) -> "Equivariance":
        from diffusability.eval.predictors.equivariance import Equivariance

        return Equivariance(self)


class InterpolationSpec(EvaluatorSpec):
    """How direct the way between two images is that decoding a straight line of latents takes."""

    kind: Literal["interpolation"] = "interpolation"
    needs: ClassVar[frozenset[str]] = frozenset({"latents", "reconstruction", "autoencoder"})

    num_samples: int = Field(32, ge=2, description="images that it sees, in pairs")
    num_steps: int = Field(4, ge=2, description="parts of the line; one decoding each, less one")

    def build(self, context: BuildContext) -> "Interpolation":
        from diffusability.eval.predictors.interpolation import Interpolation

        return Interpolation(self)
