"""The kind ``dpm-solver++``. Free of torch."""

from typing import TYPE_CHECKING, Literal

from diffusability.core.build import BuildContext
from diffusability.models.guided_sampler_spec import GuidedSamplerSpec

if TYPE_CHECKING:
    from diffusability.core.sampler import Sampler


class DPMSolverSpec(GuidedSamplerSpec):
    """DPM-Solver++(2M): second order at one evaluation a step; good with 10 to 30 steps."""

    kind: Literal["dpm-solver++"] = "dpm-solver++"

    def build(self, context: BuildContext) -> "Sampler":
        from diffusability.models.dpm_solver import DPMSolverSampler

        return DPMSolverSampler(
            steps=self.steps,
            guidance=self.guidance(context),
            time_shift=self.time_shift,
        )
