"""An autoencoder of diffusers behind the contract of the core."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.normalizer import LatentNormalizer, refuse_normalized
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.shapes import Images, Latents
from diffusability.models.autoencoders.diffusers_conventions import (
    Given,
    decoder_settings,
    latents_in,
    moments_out,
    pixels_in,
    pixels_out,
)
from diffusability.models.autoencoders.published_scaling import flux2_normalizer, normalizer_of
from diffusability.models.specs.autoencoders.diffusers_classes import LAYOUTS
from diffusability.models.specs.autoencoders.diffusers_layout import info_of

_PATCH = 2
#: Blocks of diffusers that are called as modules and lie in no other of these.
_BLOCKS = frozenset(
    {
        "AutoencoderTinyBlock",
        "CogVideoXResnetBlock3D",
        "CosmosResnetBlock3d",
        "EfficientViTBlock",
        "HunyuanVideoResnetBlockCausal3D",
        "LTXVideoResnetBlock3d",
        "ResBlock",
        "ResnetBlock2D",
    }
)


class DiffusersAutoencoder(Autoencoder):
    """Encodes and decodes with a model of diffusers, bit for bit as its pipelines do.

    Latents are raw: as the encoder gives them and the decoder takes them. Those of FLUX.2 can be put into channels two
    by two (``patchify``), the layout that its pipeline normalises and its transformer sees.

    Raises:
        ValueError: images or latents do not have the shape that is expected.
    """

    def __init__(self, *, model: nn.Module, config: Mapping[str, Any], patchify: bool = False) -> None:
        super().__init__()
        self.model: Any = model
        self.config = dict(config)
        self.patchify = patchify
        self.info = info_of(config, patchify)
        self.layout = LAYOUTS[config["_class_name"]]

    def encode(self, images: Images) -> Posterior:
        """The posterior of images or clips in [-1, 1]."""
        wanted = "(b, c, t, h, w)" if self.info.takes_clips else "(b, c, h, w)"
        if images.ndim != (5 if self.info.takes_clips else 4):
            raise ValueError(f"{self.config['_class_name']} encodes shape {wanted}, got {tuple(images.shape)!r}")
        self.info.latent_shape(tuple(images.shape[1:]))
        given = pixels_in(images.to(self.model.dtype), self.layout, self.info.temporal_factor)
        return self._posterior(self.run_encoder(given), len(images), images.dtype)

    def decode(self, latents: Latents) -> Float[Tensor, "b image_channels *image_t image_h image_w"]:
        """Images or clips of raw latents of any height and width, nominally in [-1, 1]."""
        refuse_normalized(latents, "decode")
        if latents.ndim != (5 if self.info.takes_clips else 4) or latents.shape[1] != self.info.latent_channels:
            wanted = f"(b, {self.info.latent_channels}, {'t, ' if self.info.takes_clips else ''}h, w)"
            raise ValueError(f"{self.config['_class_name']} decodes shape {wanted}, got {tuple(latents.shape)!r}")
        raw = F.pixel_shuffle(latents, _PATCH) if self.patchify else latents
        decoded = self.run_decoder(raw.to(self.model.dtype))
        return pixels_out(decoded, self.layout, len(latents)).to(latents.dtype)

    def run_encoder(self, images: Given) -> Any:
        """What the model's ``encode`` gives."""
        return self.model.encode(images)

    def run_decoder(self, latents: Latents) -> Float[Tensor, "n channels *frames rows columns"]:
        """What the model decodes."""
        settings = decoder_settings(self.layout, self.config, latents)
        output = self.model.decode(latents_in(latents, self.layout), **settings)
        decoded: Tensor = output if isinstance(output, Tensor) else output.sample
        if self.config["_class_name"] == "AutoencoderKLAllegro":  # it gives frames before channels
            decoded = decoded.transpose(1, 2)
        if self.config["_class_name"] == "AutoencoderKLCogVideoX" and latents.shape[2] % 2 == 0:
            # It gives the first of an even number of latent frames as many frames as the others: the last one stays.
            decoded = decoded[:, :, self.info.temporal_factor - 1 :]
        return decoded

    def _posterior(self, encoded: Any, samples: int, dtype: torch.dtype) -> Posterior:
        distribution = getattr(encoded, "latent_dist", None)
        if distribution is None:  # the classes without one call it by several names
            names = [name for name in ("latents", "latent") if hasattr(encoded, name)]
            return Posterior(mean=self._moments(getattr(encoded, names[0]) if names else encoded[0], samples, dtype))
        if not hasattr(distribution, "logvar"):  # a point, which diffusers calls an identity distribution
            return Posterior(mean=self._moments(distribution.mode(), samples, dtype))
        mean, logvar = (self._moments(values, samples, dtype) for values in (distribution.mean, distribution.logvar))
        return Posterior(mean=mean, logvar=logvar)

    def _moments(self, values: Tensor, samples: int, dtype: torch.dtype) -> Latents:
        return self._patched(moments_out(values, self.layout, samples).to(dtype))

    def _patched(self, latents: Latents) -> Float[Tensor, "b latent_channels *t latent_h latent_w"]:
        return F.pixel_unshuffle(latents, _PATCH) if self.patchify else latents

    def decoder_tail(self) -> Iterable[nn.Module]:
        """The decoder's last normalisation, where it has parameters, and its last convolution."""
        decoder = self.model.decoder
        tail = [getattr(decoder, name, None) for name in ("conv_norm_out", "norm_out", "conv_out")]
        if hasattr(decoder, "layers"):  # AutoencoderTiny
            tail = [decoder.layers[-1]]
        return tuple(module for module in tail if isinstance(module, nn.Module))

    def published_normalizer(self) -> LatentNormalizer | None:
        """What its pipelines do to latents before the denoiser."""
        if self.config["_class_name"] == "AutoencoderKLFlux2":
            return flux2_normalizer(self.model.bn, self.patchify)
        buffers = dict(self.model.named_buffers(recurse=False))
        return normalizer_of(self.config, (buffers.get("latents_mean"), buffers.get("latents_std")))

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The residual and attention blocks of encoder and decoder, which keep nothing between calls."""
        return [module for module in self.model.modules() if type(module).__name__ in _BLOCKS]

    def exchange_library(self) -> str:
        """Diffusers."""
        return "diffusers"

    def export(self, directory: Path) -> None:
        """Writes what ``from_pretrained`` of diffusers reads."""
        self.model.save_pretrained(directory, safe_serialization=True)
