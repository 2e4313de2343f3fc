"""The kind ``ddim``. Free of torch."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diffusability.core.build import BuildContext
from diffusability.models.guided_sampler_spec import GuidedSamplerSpec

if TYPE_CHECKING:
    from diffusability.core.sampler import Sampler


class DDIMSpec(GuidedSamplerSpec):
    """DDIM, from deterministic (eta 0) to ancestral sampling as in DDPM (eta 1)."""

    kind: Literal["ddim"] = "ddim"
    eta: float = Field(0.0, ge=0, le=1, description="0 adds no noise, 1 as much as DDPM's posterior has")

    def build(self, context: BuildContext) -> "Sampler":
        from diffusability.models.ddim import DDIMSampler

        return DDIMSampler(
            steps=self.steps,
            eta=self.eta,
            guidance=self.guidance(context),
            time_shift=self.time_shift,
        )
