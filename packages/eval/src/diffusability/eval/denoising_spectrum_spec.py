"""The kind ``denoising-spectrum``. Free of torch."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from diffusability.core.build import BuildContext
from diffusability.core.specs.base import fail
from diffusability.core.specs.components import EvaluatorSpec

if TYPE_CHECKING:
    from diffusability.eval.evaluators.denoising_spectrum import DenoisingSpectrum

InnerTime = Annotated[float, Field(gt=0, lt=1)]


class DenoisingSpectrumSpec(EvaluatorSpec):
    """What a trained denoiser knows of each frequency at each noise level: which ones are resolved when."""

    kind: Literal["denoising-spectrum"] = "denoising-spectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"latents", "diffusion_model"})

    times: tuple[InnerTime, ...] = Field(
        (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95),
        description="noise levels, rising, from data at 0 to noise at 1; each costs one evaluation of the denoiser",
    )
    block_size: int = Field(8, ge=4, le=64, description="side of a block; smaller latents take a smaller power of two")
    seed: int = Field(0, description="of the noise")

    @model_validator(mode="after")
    def _times_rise(self) -> "DenoisingSpectrumSpec":
        if len(self.times) < 2 or list(self.times) != sorted(set(self.times)):
            text = f"times must be at least two, rising, got {list(self.times)!r}"
            raise fail("times", text, self.times, type(self).__name__)
        return self

    def build(self, context: BuildContext) -> "DenoisingSpectrum":
        from diffusability.eval.evaluators.denoising_spectrum import DenoisingSpectrum

        return DenoisingSpectrum(self)
