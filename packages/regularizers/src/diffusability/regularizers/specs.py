"""What a YAML file says of the regularizers of this package. Free of torch: ``build`` imports it."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from diffusability.core.build import BuildContext
from diffusability.core.specs.components import RegularizerSpec

if TYPE_CHECKING:
    from diffusability.regularizers.kl import KL
    from diffusability.regularizers.scale_equivariance import ScaleEquivariance


class KLSpec(RegularizerSpec):
    """KL divergence of the posterior to the standard normal, averaged over all latent dimensions."""

    kind: Literal["kl"] = "kl"
    needs: ClassVar[frozenset[str]] = frozenset({"posterior"})

    weight: float = Field(1e-6, ge=0, description="multiplies the mean over dimensions, not their sum")

    def build(self, context: BuildContext) -> "KL":
        from diffusability.regularizers.kl import KL

        return KL()


class ScaleEquivarianceSpec(RegularizerSpec):
    """Downsampled latents must decode to the downsampled image."""

    kind: Literal["scale-equivariance"] = "scale-equivariance"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})

    weight: float = Field(0.25, ge=0)
    factors: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (2, 4), description="downsampling factors of height and width"
    )
    resampling: Literal["bilinear", "mean", "antialias"] = "bilinear"
    each_step: Literal["one", "all"] = Field(
        "one", description="one factor drawn for each optimizer step, or the mean over all factors"
    )
    shorten_time: bool = Field(
        True, description="clips are also pooled in time by the factor, all but their first frame; images have no time"
    )

    @field_validator("factors")
    @classmethod
    def _not_empty(cls, factors: tuple[int, ...]) -> tuple[int, ...]:
        if not factors:
            raise ValueError("factors is empty; expected at least one downsampling factor such as 2")
        return factors

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        """Looks whether latents of shape ``(c, *t, h, w)`` can be downsampled by every factor.

        Raises:
            ValueError: a factor leaves less than a pixel, or divides a side (or the frames after the first) unevenly.
        """
        _, *frames, height, width = latent_shape
        for factor in self.factors:
            if factor > min(height, width):
                raise ValueError(
                    f"scale-equivariance factor {factor!r} leaves less than one pixel of latents of {height}x{width};"
                    f" expected factors of at most {min(height, width)}"
                )
            if height % factor or width % factor:
                raise ValueError(
                    f"scale-equivariance factor {factor!r} does not divide latents of {height}x{width};"
                    " expected a common divisor of both sides"
                )
            if self.shorten_time and frames and (frames[0] - 1) % factor:
                raise ValueError(
                    f"scale-equivariance factor {factor!r} does not divide the {frames[0] - 1} latent frames after the"
                    " first; expected a divisor, or shorten_time: false"
                )

    def build(self, context: BuildContext) -> "ScaleEquivariance":
        from diffusability.regularizers.scale_equivariance import ScaleEquivariance

        return ScaleEquivariance(self)
