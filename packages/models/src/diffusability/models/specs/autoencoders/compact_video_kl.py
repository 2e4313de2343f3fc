"""The kind ``compact-video-kl``. Free of torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec

if TYPE_CHECKING:
    pass

_TAPS = 3


class CompactVideoKLSpec(AutoencoderSpec):
    """A small causal KL autoencoder of clips with 1 + n t frames that trains on a CPU."""

    kind: Literal["compact-video-kl"] = "compact-video-kl"
    builds: ClassVar[str] = "diffusability.models.autoencoders.compact_video_kl:CompactVideoKL"
    latent_channels: PositiveInt = 16
    spatial_factor: PositiveInt = Field(8, description="image pixels per latent pixel, a power of two")
    temporal_factor: PositiveInt = Field(4, description="frames per latent frame after the first")
    image_channels: PositiveInt = 3
    width: PositiveInt = Field(64, description="channels of every hidden layer, a multiple of 16")
    blocks: PositiveInt = Field(3, description="residual blocks per level of the encoder, and of the decoder")
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
        """The part of the spatial factor that pixel-unshuffling takes."""
        return min(4, self.spatial_factor)

    @property
    def num_levels(self) -> int:
        """Resolutions of hidden layers, each half of the one before."""
        return (self.spatial_factor // self.stem_factor).bit_length()

    def info(self, context: BuildContext) -> AutoencoderInfo:
        return AutoencoderInfo(
            latent_channels=self.latent_channels,
            spatial_factor=self.spatial_factor,
            temporal_factor=self.temporal_factor,
            image_channels=self.image_channels,
            takes_clips=True,
        )

    def num_parameters(self, context: BuildContext) -> int:
        width, square, latent = self.width, self.width**2, self.latent_channels
        group = self.image_channels * self.temporal_factor
        pixels = group * self.stem_factor**2
        body = self.num_levels * self.blocks * (2 * width + (9 + _TAPS) * square + 2 * width) + 2 * width
        resize = (self.num_levels - 1) * (9 * square + width + 4 * (9 * square + width))
        encoder = 9 * pixels * width + width + 9 * width * 2 * latent + 2 * latent
        decoder = 9 * latent * width + width + 9 * width * pixels + pixels
        shortcut = 2 * group * self.spatial_factor**2 * latent if self.patch_shortcut else 0
        return 2 * body + resize + encoder + decoder + shortcut
