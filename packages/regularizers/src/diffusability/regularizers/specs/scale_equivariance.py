"""What a YAML file says of scale equivariance."""

from itertools import product
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from diffusability.core.specs.components import RegularizerSpec
from diffusability.regularizers.specs.factors import Factor, sides_of, small_size

if TYPE_CHECKING:
    pass


class ScaleEquivarianceSpec(RegularizerSpec):
    """Downsampled latents must decode to the downsampled image."""

    kind: Literal["scale-equivariance"] = "scale-equivariance"
    builds: ClassVar[str] = "diffusability.regularizers.terms.scale_equivariance:ScaleEquivariance"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})

    weight: float = Field(0.25, ge=0)
    factors: tuple[Factor, ...] = Field(
        (2, 4), description="downsampling factors of both sides, such as 2 or 1.5, or of each, such as [2, 1]"
    )
    resampling: Literal["bilinear", "mean", "antialias"] = Field(
        "mean",
        description="mean: of the pixels under each new one, as the authors' code; bilinear: equals it at factor 2, but"
        " aliases beyond: at factor 4 it reads 4 of 16 pixels; antialias: bilinear with a triangle filter",
    )
    each_step: Literal["one", "all"] = Field(
        "one", description="one factor drawn for each optimizer step, or the mean over all factors"
    )
    perceptual: bool = Field(
        False,
        description="also compare with the objective's perceptual terms; the authors' configuration does, this default"
        " does not",
    )
    shorten_time: bool = Field(
        True, description="clips are also pooled in time, all but their first frame; images have no time"
    )
    temporal_factors: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="factors of time, for autoencoders of clips; default: that of height and width"
    )

    @field_validator("factors", "temporal_factors")
    @classmethod
    def _not_empty(cls, factors: tuple[Factor, ...] | None) -> tuple[Factor, ...] | None:
        if factors == ():
            raise ValueError("is empty; expected at least one downsampling factor such as 2")
        return factors

    @model_validator(mode="after")
    def _time_is_shortened(self) -> "ScaleEquivarianceSpec":
        if self.temporal_factors is not None and not self.shorten_time:
            raise ValueError(f"temporal_factors {self.temporal_factors!r} have no effect with shorten_time: false")
        return self

    def choices(self, clips: bool) -> list[tuple[Factor, int]]:
        """The spatial factors, each with its temporal factor: for clips, all pairs of both where both are given.

        Raises:
            ValueError: clips are to be shortened by a factor that is not a whole number for both sides.
        """
        if not clips or not self.shorten_time:
            return [(factor, 1) for factor in self.factors]
        if self.temporal_factors is not None:
            return list(product(self.factors, self.temporal_factors))
        for factor in self.factors:
            height, width = sides_of(factor)
            if height != width or not float(height).is_integer():
                raise ValueError(
                    f"clips cannot be shortened by the factor {factor!r}; expected temporal_factors, or"
                    " shorten_time: false"
                )
        return [(factor, int(sides_of(factor)[0])) for factor in self.factors]

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        """Looks whether latents of shape ``(c, *t, h, w)`` can be downsampled by every factor.

        Raises:
            ValueError: a factor leaves less than a pixel, a whole one divides a side (or the frames after the first)
                unevenly, or time is to be shortened where there is none.
        """
        _, *frames, height, width = latent_shape
        if self.temporal_factors is not None and not frames:
            raise ValueError(
                f"{self.kind} has temporal_factors {list(self.temporal_factors)!r}, and this autoencoder is one of"
                " images; expected one of clips, or no temporal_factors"
            )
        for factor, temporal in self.choices(bool(frames)):
            try:
                small_size((height, width), factor)
            except ValueError as error:
                raise ValueError(f"{self.kind}: {error}".replace("a map of", "latents of")) from error
            if frames and (frames[0] - 1) % temporal:
                raise ValueError(
                    f"{self.kind}: factor {temporal!r} does not divide the {frames[0] - 1} latent frames after the"
                    " first; expected a divisor, or shorten_time: false"
                )
