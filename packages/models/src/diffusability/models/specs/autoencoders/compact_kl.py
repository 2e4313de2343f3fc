"""What YAML says of the small KL autoencoder."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec


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
        """In closed form: encoder, decoder, and the two maps of the patch shortcut."""
        width, latent_channels = self.width, self.latent_channels
        norm = 2 * width
        block = norm + _conv(width, width, 3) + _conv(width, width, 1)
        pixels = self.image_channels * self.stem_factor**2
        body = self.num_levels * self.blocks * block + norm
        encoder = _conv(pixels, width, 3) + body + _conv(width, 2 * latent_channels, 3)
        decoder = _conv(latent_channels, width, 3) + body + _conv(width, pixels, 3)
        resize = (self.num_levels - 1) * (_conv(width, width, 3) + _conv(width, 4 * width, 3))
        shortcut = 2 * self.image_channels * self.spatial_factor**2 * latent_channels if self.patch_shortcut else 0
        return encoder + decoder + resize + shortcut


def _conv(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel * kernel + outputs
