"""The kind ``euler-maruyama``. Free of torch."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from diffusability.core.build import BuildContext
from diffusability.core.specs.base import fail
from diffusability.models.guided_sampler_spec import GuidedSamplerSpec

if TYPE_CHECKING:
    from diffusability.core.sampler import Sampler


class EulerMaruyamaSpec(GuidedSamplerSpec):
    """The Euler-Maruyama method for the diffusion SDE: adds and removes noise on the way."""

    kind: Literal["euler-maruyama"] = "euler-maruyama"
    diffusion: float = Field(
        2.0,
        ge=0,
        description="square of the diffusion coefficient over t; 2 is the 'sigma' of SiT's released code, 0 is Euler's"
        " method",
    )
    last_step: Literal["ode", "mean"] = Field(
        "ode",
        description="drift of the last step: ode, an estimate of the data; mean: the SDE's, as SiT's released code",
    )
    last_step_size: float = Field(
        0.04, gt=0, lt=1, description="time from which a last step of the mean goes to 0; 0.04 as SiT's released code"
    )

    @model_validator(mode="after")
    def _last_step_fits(self) -> "EulerMaruyamaSpec":
        if self.last_step != "mean" and self.last_step_size != type(self).model_fields["last_step_size"].default:
            text = f"last_step_size has no effect with last_step {self.last_step!r}; expected last_step: mean"
            raise fail("last_step_size", text, self.last_step_size, type(self).__name__)
        return self

    def build(self, context: BuildContext) -> "Sampler":
        from diffusability.models.euler_maruyama import EulerMaruyamaSampler

        return EulerMaruyamaSampler(
            steps=self.steps,
            diffusion=self.diffusion,
            last_step=self.last_step,
            last_step_size=self.last_step_size,
            guidance=self.guidance(context),
            time_shift=self.time_shift,
        )
