"""What a YAML file says of the correlation of neighbouring latents."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from diffusability.core.specs.components import RegularizerSpec

if TYPE_CHECKING:
    pass


class LocalCorrelationSpec(RegularizerSpec):
    """Neighbouring latents must be correlated up to a threshold (SSVAE)."""

    kind: Literal["local-correlation"] = "local-correlation"
    builds: ClassVar[str] = "diffusability.regularizers.terms.local_correlation:LocalCorrelation"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents", "posterior"})

    weight: float = Field(0.1, ge=0, description="with `adaptive`, the share of the reconstruction loss's gradient")
    threshold: float = Field(0.75, gt=-1, le=1, description="a mean correlation above it costs nothing")
    window: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (2, 2, 2), description="frames, height and width of a window; of images, height and width"
    )
    adaptive: bool = Field(False, description="scale the weight to the reconstruction loss's gradient at the latents")
    adapt_every: PositiveInt = Field(16, description="steps between measurements of the gradients, for `adaptive`")

    @field_validator("window")
    @classmethod
    def _has_neighbours(cls, window: tuple[int, int, int]) -> tuple[int, int, int]:
        if window[1] * window[2] < 2:
            raise ValueError(f"a window {list(window)!r} holds no neighbours; expected a height or width of at least 2")
        return window

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        """Looks whether latents of shape ``(c, *t, h, w)`` consist of whole windows.

        Raises:
            ValueError: they do not, or they have one channel, of which nothing is left once its mean is taken off.
        """
        channels, *frames, height, width = latent_shape
        count, rows, columns = self.window
        if channels < 2:
            raise ValueError(f"{self.kind} compares latents over their channels; expected at least 2, got {channels}")
        if height % rows or width % columns:
            raise ValueError(
                f"{self.kind}: a window of {rows}x{columns} does not divide latents of {height}x{width}; expected a"
                " common divisor"
            )
        if frames and (frames[0] - 1) % count:
            raise ValueError(
                f"{self.kind}: a window of {count} frames does not divide the {frames[0] - 1} latent frames after the"
                " first; expected a divisor"
            )
