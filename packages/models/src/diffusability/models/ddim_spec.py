"""The kind ``ddim``. Free of torch."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from diffusability.core.build import BuildContext
from diffusability.core.specs.base import fail
from diffusability.models.guided_sampler_spec import GuidedSamplerSpec

if TYPE_CHECKING:
    from diffusability.core.sampler import Sampler


class DDIMSpec(GuidedSamplerSpec):
    """DDIM, from deterministic (eta 0) to ancestral sampling as in DDPM (eta 1)."""

    kind: Literal["ddim"] = "ddim"
    eta: float = Field(0.0, ge=0, le=1, description="0 adds no noise, 1 as much as DDPM's posterior has")
    learned_variance: bool = Field(
        False, description="at eta 1: noise of the learned variance, as the original DiT is sampled, for learn_sigma"
    )

    @model_validator(mode="after")
    def _ancestral_only(self) -> "DDIMSpec":
        if self.learned_variance and self.eta != 1:
            text = f"learned_variance is that of ancestral sampling, eta 1; eta is {self.eta!r}"
            raise fail("learned_variance", text, True, type(self).__name__)
        return self

    def build(self, context: BuildContext) -> "Sampler":
        from diffusability.models.ddim import DDIMSampler

        return DDIMSampler(
            steps=self.steps,
            eta=self.eta,
            learned_variance=self.learned_variance,
            guidance=self.guidance(context),
            time_shift=self.time_shift,
        )
