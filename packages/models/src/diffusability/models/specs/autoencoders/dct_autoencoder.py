"""The kind ``dct``. Free of torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec

if TYPE_CHECKING:
    pass


class DCTAutoencoderSpec(AutoencoderSpec):
    """The blockwise cosine transform as an autoencoder without weights: its first coefficients are the channels."""

    kind: Literal["dct"] = "dct"
    builds: ClassVar[str] = "diffusability.models.autoencoders.dct_autoencoder:DCTAutoencoder"
    block_size: PositiveInt = Field(8, description="side of a block in pixels; the spatial factor")
    num_coefficients: PositiveInt = Field(
        16, description="of each block and colour, the first in zigzag order; block_size^2 is an exact inverse"
    )
    image_channels: PositiveInt = 3

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> "DCTAutoencoderSpec":
        if self.num_coefficients > self.block_size**2:
            raise ValueError(
                f"num_coefficients is {self.num_coefficients!r}, and a block of {self.block_size} by {self.block_size}"
                f" has {self.block_size**2}"
            )
        return self

    def info(self, context: BuildContext) -> AutoencoderInfo:
        return AutoencoderInfo(
            latent_channels=self.image_channels * self.num_coefficients,
            spatial_factor=self.block_size,
            image_channels=self.image_channels,
        )

    def num_parameters(self, context: BuildContext) -> int:
        return 0
