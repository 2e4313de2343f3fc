"""The kind ``channel-variant``. Free of torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

import attrs
from pydantic import Field, PositiveInt

from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AnyAutoencoder, AnyDataset, AutoencoderSpec

if TYPE_CHECKING:
    pass


class ChannelVariantSpec(AutoencoderSpec):
    """Another autoencoder with another number of latent channels, by surgery on its bottleneck convolutions."""

    kind: Literal["channel-variant"] = "channel-variant"
    builds: ClassVar[str] = "diffusability.models.autoencoders.channel_variant:build_channel_variant"
    autoencoder: AnyAutoencoder = Field(description="the one that it starts from, with its weights")
    latent_channels: PositiveInt
    shrink_by: Literal["pca", "drop"] = Field(
        "pca", description="with fewer channels: the principal components of latents, or the first of the old channels"
    )
    data: AnyDataset | None = Field(
        None, description="for pca: images to encode, or cached latents ({kind: latents, stage: ...})"
    )
    num_samples: PositiveInt = Field(256, description="examples of the data that pca sees")

    def info(self, context: BuildContext) -> AutoencoderInfo | None:
        base = self.autoencoder.info(context)
        if base is None:
            return None
        if self.latent_channels < base.latent_channels and self.shrink_by == "pca" and self.data is None:
            raise ValueError(
                f"{self.latent_channels} of {base.latent_channels} latent channels are to be found by pca, and there is"
                " no 'data' for it; name a dataset of images or cached latents, or shrink_by: drop"
            )
        return attrs.evolve(base, latent_channels=self.latent_channels)

    def is_pretrained(self, context: BuildContext) -> bool:
        return self.autoencoder.is_pretrained(context)

    def random_weights(self) -> str:
        inherited = self.autoencoder.random_weights()
        base = self.autoencoder.info(BuildContext())
        if inherited or base is None or self.latent_channels <= base.latent_channels:
            return inherited
        return f"the weights of {self.latent_channels - base.latent_channels} added latent channels"

    def builds_untrained(self) -> bool:
        return self.autoencoder.builds_untrained()
