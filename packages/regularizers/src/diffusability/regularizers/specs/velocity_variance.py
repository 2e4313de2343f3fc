"""What a YAML file says of the variance of velocities."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.specs.components import RegularizerSpec
from diffusability.regularizers.specs.factors import check_blocks

if TYPE_CHECKING:
    pass


class VelocityVarianceSpec(RegularizerSpec):
    """Variance of the velocity that no denoiser can predict, for latents modelled as a Gaussian (VIV)."""

    kind: Literal["velocity-variance"] = "velocity-variance"
    builds: ClassVar[str] = "diffusability.regularizers.terms.velocity_variance:VelocityVariance"
    needs: ClassVar[frozenset[str]] = frozenset({"latents"})

    weight: float = Field(0.05, ge=0)
    block_size: int = Field(8, ge=2, description="the spatial covariance is that within blocks of this side")

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        check_blocks(self.kind, self.block_size, latent_shape)
