"""What a YAML file says of masking latents."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from diffusability.core.specs.components import RegularizerSpec

if TYPE_CHECKING:
    pass


class LatentMaskingSpec(RegularizerSpec):
    """The decoder must reconstruct images from latents of which some are replaced by a learned one (SSVAE)."""

    kind: Literal["latent-masking"] = "latent-masking"
    builds: ClassVar[str] = "diffusability.regularizers.terms.latent_masking:LatentMasking"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})

    weight: float = Field(1.0, ge=0)
    ratios: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.25, 0.5, 0.75), description="shares of the latents that are masked; one is drawn for each step that masks"
    )
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.1, 0.1, 0.1), description="share of the steps with each ratio; the rest of the steps mask nothing"
    )
    block_size: PositiveInt = Field(1, description="latents are masked in blocks of this side")
    perceptual: bool = Field(True, description="also compare with the objective's perceptual terms")

    @field_validator("ratios")
    @classmethod
    def _not_empty(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if not ratios:
            raise ValueError("ratios is empty; expected at least one share such as 0.5")
        return ratios

    @model_validator(mode="after")
    def _one_probability_each(self) -> "LatentMaskingSpec":
        if len(self.probabilities) != len(self.ratios) or sum(self.probabilities) > 1 + 1e-9:
            raise ValueError(
                f"probabilities {list(self.probabilities)!r} do not fit ratios {list(self.ratios)!r}; expected one for"
                " each, of a sum of at most 1"
            )
        return self

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        height, width = latent_shape[-2:]
        if height % self.block_size or width % self.block_size:
            raise ValueError(
                f"{self.kind}: block_size {self.block_size!r} does not divide latents of {height}x{width}; expected a"
                " common divisor of both sides"
            )
