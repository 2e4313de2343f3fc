"""Representation autoencoders: a frozen vision transformer encodes, a trained one decodes."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.models.autoencoders.representation.decoder import ViTDecoder
from diffusability.models.autoencoders.representation.decoder_checkpoints import load_decoder
from diffusability.models.autoencoders.representation.encoder import FrozenEncoder, facts_of
from diffusability.models.specs.autoencoders.rae import RAESpec


class RAE(Autoencoder):
    """The patch tokens of a frozen vision transformer as latents, and a vision transformer that decodes them.

    Source: "Diffusion Transformers with Representation Autoencoders" (Zheng et al. 2025), section 3. Deterministic.
    What is saved holds the encoder's weights, too, and needs nothing else.

    Raises:
        ValueError: images or latents do not have the shape that is expected.
    """

    def __init__(self, *, info: AutoencoderInfo, encoder: FrozenEncoder, decoder: ViTDecoder) -> None:
        super().__init__()
        self.info = info
        self.encoder = encoder
        self.decoder = decoder

    @classmethod
    def from_spec(cls, spec: RAESpec, context: BuildContext) -> "RAE":
        info = AutoencoderInfo(latent_channels=facts_of(spec.encoder).width, spatial_factor=spec.decoder.patch_size)
        encoder = FrozenEncoder(spec.encoder, context.untrained)
        decoder = ViTDecoder(
            latent_channels=info.latent_channels, size=spec.decoder.dimensions, patch_size=spec.decoder.patch_size
        )
        if spec.decoder.pretrained is not None and not context.untrained:
            load_decoder(decoder, spec.decoder.pretrained, encoder.mean, encoder.std)
        made = cls(info=info, encoder=encoder, decoder=decoder)
        made.spec = spec.model_copy(  # rebuilt without these files
            update={
                "encoder": spec.encoder.model_copy(update={"pretrained": "random"}),
                "decoder": spec.decoder.model_copy(update={"pretrained": None}),
            }
        )
        return made

    def encode(self, images: Images) -> Posterior:
        """The tokens of images in [-1, 1], each of zero mean and unit spread over its channels."""
        _, *grid = self.info.latent_shape(tuple(images.shape[1:]))
        height, width = grid
        return Posterior(mean=self.encoder(images, (height, width)).to(images.dtype))

    def decode(self, latents: Latents) -> Float[Tensor, "b image_channels *t image_h image_w"]:
        """Images of raw latents of any height and width; not clamped."""
        if latents.ndim != 4 or latents.shape[1] != self.info.latent_channels:
            expected = f"(b, {self.info.latent_channels}, h, w)"
            raise ValueError(f"rae decodes latents of shape {expected}, got {tuple(latents.shape)!r}")
        images: Tensor = self.decoder(latents)
        return images.to(latents.dtype)

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The decoder's blocks: the encoder keeps nothing for a backward pass."""
        return self.decoder.blocks

    def decoder_tail(self) -> Iterable[nn.Module]:
        """The last normalisation and the convolution that makes pixels."""
        return self.decoder.norm, self.decoder.pixels
