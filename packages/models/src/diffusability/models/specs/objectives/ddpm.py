"""The kind ``ddpm``. Free of torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AnyDenoiser, ObjectiveSpec

if TYPE_CHECKING:
    pass


class DDPMSpec(ObjectiveSpec):
    """Trains a denoiser to predict noise on discrete steps, as the original DiT (Ho et al. 2020)."""

    kind: Literal["ddpm"] = "ddpm"
    builds: ClassVar[str] = "diffusability.models.objectives.ddpm:DDPM"
    provides: ClassVar[frozenset[str]] = frozenset({"latents", "time", "prediction", "target"})
    trains_on: ClassVar[Literal["images", "latents"]] = "latents"

    denoiser: AnyDenoiser = Field(description="with learn_sigma: true, the variance is learned too")
    num_steps: PositiveInt = Field(1000, ge=2, description="steps of the noising process")
    beta_start: float = Field(1e-4, gt=0, lt=1, description="variance added by the first step")
    beta_end: float = Field(0.02, gt=0, lt=1, description="variance added by the last step; linear in between")
    vlb_weight: float = Field(
        1e-3, ge=0, description="weight of the variational bound, summed over all steps, for a learned variance"
    )
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="share of labels replaced by 'no class' while training, for guidance"
    )

    @model_validator(mode="after")
    def _betas_rise(self) -> "DDPMSpec":
        if self.beta_start > self.beta_end:
            raise ValueError(
                f"beta_start {self.beta_start!r} exceeds beta_end {self.beta_end!r}; expected rising betas"
            )
        return self

    def num_parameters(self, context: BuildContext) -> int | None:
        return self.denoiser.num_parameters(context)
