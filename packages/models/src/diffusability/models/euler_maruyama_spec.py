"""The kind ``euler-maruyama``. Free of torch."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diffusability.core.build import BuildContext
from diffusability.models.guided_sampler_spec import GuidedSamplerSpec

if TYPE_CHECKING:
    from diffusability.core.sampler import Sampler


class EulerMaruyamaSpec(GuidedSamplerSpec):
    """The Euler-Maruyama method for the diffusion SDE: adds and removes noise on the way."""

    kind: Literal["euler-maruyama"] = "euler-maruyama"
    diffusion: float = Field(1.0, ge=0, description="square of the diffusion coefficient over t; 0 is Euler's method")

    def build(self, context: BuildContext) -> "Sampler":
        from diffusability.models.euler_maruyama import EulerMaruyamaSampler

        return EulerMaruyamaSampler(
            steps=self.steps,
            diffusion=self.diffusion,
            guidance=self.guidance(context),
            time_shift=self.time_shift,
        )
