"""What all samplers of this package have in common in a spec. Free of torch."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from diffusability.core.specs.base import fail
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AnyDenoiser, SamplerSpec
from diffusability.models.specs.time_shift import TimeShift, said

_EVERYWHERE = (0.0, 1.0)


class GuidedSamplerSpec(SamplerSpec):
    """Steps of time and guidance."""

    steps: PositiveInt = 40
    guidance_interval: tuple[float, float] = Field(
        _EVERYWHERE, description="steps that start at times in (low, high] are guided; data are at 0, noise at 1"
    )
    guidance_channels: PositiveInt | None = Field(
        None,
        description="guide the first of the latents' channels only: 3 as the published sampling code of DiT and SiT;"
        " default: all",
    )
    guide: AnyDenoiser | None = Field(
        None, description="autoguidance: a weaker trained model that takes the place of 'no class' in guidance"
    )
    time_shift: TimeShift = Field(
        1.0,
        description="moves the steps towards noise (above 1) or data (below): t -> s t / (1 + (s - 1) t); auto:"
        " sqrt(m / 4096), m the numbers in a sample's latents",
    )

    def remarks(self, context: BuildContext) -> list[str]:
        return [f"sampler {self.kind!r}: {sentence}" for sentence in said(self.time_shift, context.latent_shape)]

    @model_validator(mode="after")
    def _guidance_fits(self) -> "GuidedSamplerSpec":
        low, high = self.guidance_interval
        if not 0 <= low < high <= 1:
            text = f"guidance_interval is {list(self.guidance_interval)!r}; expected two rising times in [0, 1]"
            raise fail("guidance_interval", text, self.guidance_interval, type(self).__name__)
        if self.guidance_scale == 1:
            given = (
                ("guidance_interval", self.guidance_interval != _EVERYWHERE),
                ("guide", self.guide),
                ("guidance_channels", self.guidance_channels),
            )
            for name, unused in given:
                if unused:
                    text = f"{name} has no effect at guidance_scale 1, which means no guidance; give another scale"
                    raise fail(name, text, getattr(self, name), type(self).__name__)
        return self


class DDIMSpec(GuidedSamplerSpec):
    """DDIM, from deterministic (eta 0) to ancestral sampling as in DDPM (eta 1)."""

    kind: Literal["ddim"] = "ddim"
    builds: ClassVar[str] = "diffusability.models.samplers.ddim:DDIMSampler"
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


class DPMSolverSpec(GuidedSamplerSpec):
    """DPM-Solver++(2M): second order at one evaluation a step; good with 10 to 30 steps."""

    kind: Literal["dpm-solver++"] = "dpm-solver++"
    builds: ClassVar[str] = "diffusability.models.samplers.dpm_solver:DPMSolverSampler"


class EulerMaruyamaSpec(GuidedSamplerSpec):
    """The Euler-Maruyama method for the diffusion SDE: adds and removes noise on the way."""

    kind: Literal["euler-maruyama"] = "euler-maruyama"
    builds: ClassVar[str] = "diffusability.models.samplers.euler_maruyama:EulerMaruyamaSampler"
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


class HeunSpec(GuidedSamplerSpec):
    """Heun's second-order method: two evaluations a step."""

    kind: Literal["heun"] = "heun"
    builds: ClassVar[str] = "diffusability.models.samplers.heun:HeunSampler"


class EulerSpec(GuidedSamplerSpec):
    """Euler's method, with guidance."""

    kind: Literal["euler"] = "euler"
    builds: ClassVar[str] = "diffusability.models.samplers.euler:EulerSampler"
