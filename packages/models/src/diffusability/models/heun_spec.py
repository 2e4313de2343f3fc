"""The kind ``heun``. Free of torch."""

from typing import TYPE_CHECKING, Literal

from diffusability.core.build import BuildContext
from diffusability.models.guided_sampler_spec import GuidedSamplerSpec

if TYPE_CHECKING:
    from diffusability.core.sampler import Sampler


class HeunSpec(GuidedSamplerSpec):
    """Heun's second-order method: two evaluations a step."""

    kind: Literal["heun"] = "heun"

    def build(self, context: BuildContext) -> "Sampler":
        from diffusability.models.heun import HeunSampler

        return HeunSampler(
            steps=self.steps,
            guidance=self.guidance(context),
            time_shift=self.time_shift,
        )
