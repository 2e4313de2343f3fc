"""What all samplers of this package have in common in a spec. Free of torch."""

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from diffusability.core.build import BuildContext
from diffusability.core.specs.base import fail
from diffusability.core.specs.components import AnyDenoiser, SamplerSpec

if TYPE_CHECKING:
    from diffusability.models.guidance import Guidance

_EVERYWHERE = (0.0, 1.0)


class GuidedSamplerSpec(SamplerSpec):
    """Steps of time and guidance."""

    steps: PositiveInt = 40
    guidance_interval: tuple[float, float] = Field(
        _EVERYWHERE, description="steps that start at times in (low, high] are guided; data are at 0, noise at 1"
    )
    guide: AnyDenoiser | None = Field(
        None, description="autoguidance: a weaker trained model that takes the place of 'no class' in guidance"
    )
    time_shift: PositiveFloat = Field(
        1.0, description="moves the steps towards noise (above 1) or data (below): t -> s t / (1 + (s - 1) t)"
    )

    @model_validator(mode="after")
    def _guidance_fits(self) -> "GuidedSamplerSpec":
        low, high = self.guidance_interval
        if not 0 <= low < high <= 1:
            text = f"guidance_interval is {list(self.guidance_interval)!r}; expected two rising times in [0, 1]"
            raise fail("guidance_interval", text, self.guidance_interval, type(self).__name__)
        if self.guidance_scale == 1:
            for name, unused in (("guidance_interval", self.guidance_interval != _EVERYWHERE), ("guide", self.guide)):
                if unused:
                    text = f"{name} has no effect at guidance_scale 1, which is no guidance; give another scale"
                    raise fail(name, text, getattr(self, name), type(self).__name__)
        return self

    def guidance(self, context: BuildContext) -> "Guidance":
        """The guidance that it describes, with the guide's weights loaded. Imports torch."""
        from diffusability.core.saved_models import trained_model
        from diffusability.models.guidance import Guidance

        guide = None
        if self.guide is not None:
            guide = trained_model(self.guide, context).velocity_model().eval().requires_grad_(False)
        return Guidance(scale=self.guidance_scale, interval=self.guidance_interval, guide=guide)
