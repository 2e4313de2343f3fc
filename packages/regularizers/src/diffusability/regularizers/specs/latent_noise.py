"""What a YAML file says of decoding noised latents."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, model_validator

from diffusability.core.specs.components import RegularizerSpec

if TYPE_CHECKING:
    pass


class LatentNoiseSpec(RegularizerSpec):
    """Noised latents must decode to the image: a denoising autoencoder."""

    kind: Literal["latent-noise"] = "latent-noise"
    builds: ClassVar[str] = "diffusability.regularizers.terms.latent_noise:LatentNoise"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})

    weight: float = Field(0.5, ge=0)
    mix: Literal["interpolate", "add"] = Field(
        "interpolate", description="interpolate: (1 - t) z + t s e, as flow matching noises latents; add: z + t s e"
    )
    max_level: PositiveFloat = Field(0.5, description="t is drawn from [0, max_level) for every sample")
    noise_scale: PositiveFloat = Field(1.0, description="s, in standard deviations of the latents")
    perceptual: bool = Field(True, description="also compare with the objective's perceptual terms")

    @model_validator(mode="after")
    def _interpolates_within(self) -> "LatentNoiseSpec":
        if self.mix == "interpolate" and self.max_level > 1:
            raise ValueError(f"max_level is {self.max_level!r}; expected at most 1 with mix: interpolate")
        return self
