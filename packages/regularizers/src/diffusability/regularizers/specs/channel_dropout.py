"""What a YAML file says of dropping channels."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from diffusability.core.specs.components import RegularizerSpec

if TYPE_CHECKING:
    pass


class ChannelDropoutSpec(RegularizerSpec):
    """The first channels of the latents alone must decode to the image: one autoencoder of many latent sizes."""

    kind: Literal["channel-dropout"] = "channel-dropout"
    builds: ClassVar[str] = "diffusability.regularizers.terms.channel_dropout:ChannelDropout"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})

    weight: float = Field(0.5, ge=0)
    keep: tuple[PositiveInt, ...] | None = Field(
        None,
        description="numbers of channels that may be kept; one is drawn for each step; default: all below the full",
    )
    perceptual: bool = Field(True, description="also compare with the objective's perceptual terms")

    @field_validator("keep")
    @classmethod
    def _not_empty(cls, keep: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if keep == ():
            raise ValueError("keep is empty; expected at least one number of channels")
        return keep

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        """Looks whether latents of shape ``(c, *t, h, w)`` have more channels than are kept.

        Raises:
            ValueError: they have not.
        """
        channels = latent_shape[0]
        if channels < 2 or max(self.keep or (1,)) >= channels:
            kept = "one channel" if channels < 2 else f"keep {list(self.keep or ())!r}"
            raise ValueError(f"{self.kind}: {kept} of {channels} latent channels drops none; expected fewer to be kept")
