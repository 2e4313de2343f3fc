"""What a YAML file says of equivariance to scale, rotations and flips."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from diffusability.core.specs.components import RegularizerSpec

if TYPE_CHECKING:
    pass


class EquivarianceSpec(RegularizerSpec):
    """Latents that are scaled, turned or mirrored must decode to the image treated alike (EQ-VAE)."""

    kind: Literal["equivariance"] = "equivariance"
    builds: ClassVar[str] = "diffusability.regularizers.terms.equivariance:Equivariance"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})

    weight: float = Field(1.0, ge=0)
    probability: float = Field(0.5, ge=0, le=1, description="share of the steps in which latents are transformed")
    small_image_probability: float = Field(
        0.25, ge=0, le=1, description="share of the other steps in which small images are reconstructed"
    )
    min_scale: float = Field(0.25, gt=0, le=1, description="scales are drawn from [min_scale, 1); 1 is none")
    anisotropic: bool = Field(False, description="draw the scales of height and width each on its own")
    rotations: bool = Field(True, description="turn by 90, 180 or 270 degrees")
    flips: bool = Field(False, description="mirror in half of the steps too, which the authors' code does not")
    perceptual: bool = Field(True, description="also compare with the objective's perceptual terms")

    @model_validator(mode="after")
    def _something_is_done(self) -> "EquivarianceSpec":
        if self.min_scale == 1 and not self.rotations and not self.flips:
            raise ValueError("min_scale 1 without rotations and flips leaves everything as it is; expected one of them")
        return self

    def sizes(self, side: int) -> list[int]:
        """Sides of the latents at all scales: whole pixels from ``min_scale`` to just below all."""
        smallest = max(1, -int(-side * self.min_scale // 1))
        return list(range(smallest, side)) if self.min_scale < 1 else [side]

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        """Looks whether there are sizes to scale latents of shape ``(c, *t, h, w)`` to.

        Raises:
            ValueError: no scale leaves a whole pixel, or latents to be turned are not square.
        """
        height, width = latent_shape[-2:]
        if not self.sizes(min(height, width)):
            raise ValueError(
                f"{self.kind}: scales from {self.min_scale!r} leave less than one pixel, or all, of latents of"
                f" {height}x{width}; expected larger latents, or min_scale: 1"
            )
