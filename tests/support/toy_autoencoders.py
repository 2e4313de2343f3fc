"""Autoencoders that are simple enough to be known by heart."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.specs.build_context import AutoencoderInfo


class LinearConvolutions(Autoencoder):
    """One strided convolution each way, and a constant log variance."""

    info = AutoencoderInfo(latent_channels=4, spatial_factor=2)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Conv2d(3, 4, 4, stride=2, padding=1)
        self.decoder = nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1)
        self.double()

    def encode(self, images: Tensor) -> Posterior:
        mean = self.encoder(images)
        return Posterior(mean=mean, logvar=torch.full_like(mean, -4.0))

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)


class Identity(Autoencoder):
    """Latents are images: equivariant to everything."""

    info = AutoencoderInfo(latent_channels=3, spatial_factor=1)

    def encode(self, images: Tensor) -> Posterior:
        return Posterior(mean=images)

    def decode(self, latents: Tensor) -> Tensor:
        return latents


class CausalPairs(Identity):
    """Halves time: the first frame alone, the average of each pair after it; decoding repeats. Space is left alone."""

    info = AutoencoderInfo(latent_channels=3, spatial_factor=1, temporal_factor=2)

    def encode(self, images: Tensor) -> Posterior:
        pairs = (images[:, :, 1::2] + images[:, :, 2::2]) / 2
        return Posterior(mean=torch.cat([images[:, :, :1], pairs], 2))

    def decode(self, latents: Tensor) -> Tensor:
        return torch.cat([latents[:, :, :1], latents[:, :, 1:].repeat_interleave(2, 2)], 2)


class Unfinished(Identity):
    """Decodes to a fixed size whatever it is given, as a decoder with a learned position grid would."""

    def decode(self, latents: Tensor) -> Tensor:
        return F.interpolate(latents, (16, 16))


class Still(Identity):
    """Has an encoder without variance."""
