"""What YAML says of the small KL autoencoder."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.models.specs.parameter_counts import compact_kl_parameters

if TYPE_CHECKING:
    pass


class CompactKLSpec(AutoencoderSpec):
    """A small convolutional KL autoencoder that trains on a CPU."""

    kind: Literal["compact-kl"] = "compact-kl"
    builds: ClassVar[str] = "diffusability.models.autoencoders.compact_kl:CompactKL"
    latent_channels: PositiveInt = 16
    spatial_factor: PositiveInt = Field(8, description="image pixels per latent pixel, a power of two")
    image_channels: PositiveInt = 3
    width: PositiveInt = Field(64, description="channels of every hidden layer, a multiple of 16")
    blocks: PositiveInt = Field(4, description="residual blocks per level of the encoder, and of the decoder")
    patch_shortcut: bool = Field(
        True, description="add linear maps between patches and latents: quick to learn, slower to change in fine-tuning"
    )

    @field_validator("spatial_factor")
    @classmethod
    def _power_of_two(cls, factor: int) -> int:
        if factor & (factor - 1):
            raise ValueError(f"spatial_factor is {factor!r}; expected a power of two, such as 4, 8 or 16")
        return factor

    @field_validator("width")
    @classmethod
    def _whole_groups(cls, width: int) -> int:
        if width % 16:
            raise ValueError(f"width is {width!r}; expected a multiple of 16, the channels of a normalisation group")
        return width

    @property
    def stem_factor(self) -> int:
        """The part of the spatial factor that pixel-unshuffling takes: hidden layers see images at most this small."""
        return min(4, self.spatial_factor)

    @property
    def num_levels(self) -> int:
        """Resolutions of hidden layers, each half of the one before."""
        return (self.spatial_factor // self.stem_factor).bit_length()

    def info(self, context: BuildContext) -> AutoencoderInfo:
        return AutoencoderInfo(
            latent_channels=self.latent_channels,
            spatial_factor=self.spatial_factor,
            image_channels=self.image_channels,
        )

    def num_parameters(self, context: BuildContext) -> int:
        return compact_kl_parameters(
            image_channels=self.image_channels,
            latent_channels=self.latent_channels,
            spatial_factor=self.spatial_factor,
            stem_factor=self.stem_factor,
            num_levels=self.num_levels,
            width=self.width,
            blocks=self.blocks,
            patch_shortcut=self.patch_shortcut,
        )
