"""The kind ``error-accumulation``. Free of torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat

from diffusability.core.build import BuildContext
from diffusability.core.specs.components import EvaluatorSpec

if TYPE_CHECKING:
    from diffusability.eval.evaluators.error_accumulation import ErrorAccumulation


class ErrorAccumulationSpec(EvaluatorSpec):
    """How the errors of single sampling steps add up along the sampler, and at which frequencies."""

    kind: Literal["error-accumulation"] = "error-accumulation"
    needs: ClassVar[frozenset[str]] = frozenset({"latents", "diffusion_model"})

    steps: int = Field(
        20, ge=2, description="steps of Euler's method; each is two evaluations of the denoiser a sample"
    )
    time_shift: PositiveFloat = Field(1.0, description="moves the steps towards noise (above 1) or data (below)")
    block_size: int = Field(8, ge=4, le=64, description="side of a block; smaller latents take a smaller power of two")
    seed: int = Field(0, description="of the noise")

    def build(self, context: BuildContext) -> "ErrorAccumulation":
        from diffusability.eval.evaluators.error_accumulation import ErrorAccumulation

        return ErrorAccumulation(self)
