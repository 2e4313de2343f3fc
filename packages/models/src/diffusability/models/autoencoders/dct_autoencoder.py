"""The blockwise discrete cosine transform as an autoencoder."""

from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.numerics.dct import dct2, from_blocks, idct2, to_blocks, zigzag_order
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.models.specs.autoencoders.dct_autoencoder import DCTAutoencoderSpec


class DCTAutoencoder(Autoencoder):
    """Orthonormal DCT-II of each block; a coefficient of a colour is a channel (as in DCTdiff, Ning et al. 2024).

    Channels run over coefficients in zigzag order, and within each over colours: the first ``image_channels`` are DC.
    With all coefficients decoding inverts encoding; with fewer, their composition is an orthogonal projection.

    Raises:
        ValueError: images or latents do not have the shape that is expected.
    """

    def __init__(self, *, info: AutoencoderInfo, num_coefficients: int) -> None:
        super().__init__()
        self.info = info
        self.num_coefficients = num_coefficients

    @classmethod
    def from_spec(cls, spec: DCTAutoencoderSpec, context: BuildContext) -> "DCTAutoencoder":
        return cls(info=spec.info(context), num_coefficients=spec.num_coefficients)

    def encode(self, images: Images) -> Posterior:
        """The coefficients of images, as a posterior without variance."""
        if images.ndim != 4:
            raise ValueError(f"dct encodes images of shape (b, c, h, w), got {tuple(images.shape)!r}")
        self.info.latent_shape(tuple(images.shape[1:]))
        size = self.info.spatial_factor
        kept = zigzag_order(size)[: self.num_coefficients].to(images.device)
        coefficients = dct2(to_blocks(images, size)).flatten(-2)[..., kept]  # b colour rows columns k
        return Posterior(mean=coefficients.permute(0, 4, 1, 2, 3).flatten(1, 2))

    def decode(self, latents: Latents) -> Float[Tensor, "b image_channels *image_t image_h image_w"]:
        """Images of coefficients; those that are not kept are taken as 0."""
        if latents.ndim != 4 or latents.shape[1] != self.info.latent_channels:
            expected = f"(b, {self.info.latent_channels}, h, w)"
            raise ValueError(f"dct decodes latents of shape {expected}, got {tuple(latents.shape)!r}")
        batch, _, rows, columns = latents.shape
        size = self.info.spatial_factor
        kept = zigzag_order(size)[: self.num_coefficients].to(latents.device)
        values = latents.reshape(batch, self.num_coefficients, self.info.image_channels, rows, columns)
        blocks = latents.new_zeros(batch, self.info.image_channels, rows, columns, size**2)
        blocks[..., kept] = values.permute(0, 2, 3, 4, 1)
        return from_blocks(idct2(blocks.reshape(*blocks.shape[:-1], size, size)))
