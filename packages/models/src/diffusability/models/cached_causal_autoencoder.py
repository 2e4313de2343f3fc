"""Wan's and Qwen-Image's causal autoencoders, made fit for training."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from diffusability.core.shapes import Images, Latents
from diffusability.models.diffusers_autoencoder import DiffusersAutoencoder

CACHED_CLASSES = frozenset({"AutoencoderKLWan", "AutoencoderKLQwenImage"})
_FRAMES_PER_CHUNK = 4


class CachedCausalAutoencoder(DiffusersAutoencoder):
    """Encodes and decodes clips chunk by chunk; each convolution keeps frames of the chunk before in a cache.

    In eval mode it is diffusers' own model. In training mode the same chunks run without two things that spoil
    gradients: the clamp of decoded clips to [-1, 1], outside of which no gradient flows, and caches that a block writes
    to while it runs, which make activation checkpointing compute something else the second time.
    """

    _checkpointing = False

    def checkpoint_activations(self) -> None:
        """Makes training keep only what enters each chunk, caches included, and compute the rest again."""
        self._checkpointing = True

    def run_encoder(self, images: Images) -> Any:
        """The encoded clip: diffusers' own in eval mode, chunks with caches passed from one to the next in training."""
        if not self.training or self.model.use_tiling or self.model.use_slicing:
            return self.model.encode(images)
        if self.config.get("patch_size"):
            images = _patches(images, self.config["patch_size"])
        bounds = [0, *range(1, images.shape[2] + 1, _FRAMES_PER_CHUNK)]
        chunks = [images[:, :, first:last] for first, last in pairwise(bounds)]
        moments = self.model.quant_conv(self._chunked(self.model.encoder, chunks, first_differs=False))
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
        from diffusers.models.modeling_outputs import AutoencoderKLOutput

        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments))

    def run_decoder(self, latents: Latents) -> Float[Tensor, "b image_channels *image_t image_h image_w"]:
        """The decoded clip; clamped to [-1, 1] in eval mode, as diffusers does, and as it is in training."""
        if not self.training or self.model.use_tiling or self.model.use_slicing:
            decoded: Tensor = self.model.decode(latents).sample
            return decoded
        frames = list(self.model.post_quant_conv(latents).split(1, dim=2))
        first_differs = self.config["_class_name"] == "AutoencoderKLWan"
        decoded = self._chunked(self.model.decoder, frames, first_differs)
        if self.config.get("patch_size"):
            decoded = _images(decoded, self.config["patch_size"])
        return decoded

    def _chunked(self, half: Any, chunks: list[Tensor], first_differs: bool) -> Float[Tensor, "b c *t h w"]:
        """Runs an encoder or decoder over chunks, in order."""
        self.model.clear_cache()
        counts = self.model._enc_conv_num if half is self.model.encoder else self.model._conv_num
        caches: tuple[Any, ...] = (None,) * counts

        def run(chunk: Tensor, first: bool, *before: Any) -> tuple[Any, ...]:
            after = list(before)
            extra = {"first_chunk": True} if first and first_differs else {}
            return (half(chunk, feat_cache=after, feat_idx=[0], **extra), *after)

        outputs = []
        for index, chunk in enumerate(chunks):
            if self._checkpointing and torch.is_grad_enabled():
                output, *rest = checkpoint(run, chunk, index == 0, *caches, use_reentrant=False)
            else:
                output, *rest = run(chunk, index == 0, *caches)
            caches = tuple(rest)
            outputs.append(output)
        return torch.cat(outputs, dim=2)


def _patches(clips: Float[Tensor, "b c t h w"], size: int) -> Float[Tensor, "b c2 t h2 w2"]:
    from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

    patched: Tensor = patchify(clips, patch_size=size)  # type: ignore[no-untyped-call]
    return patched


def _images(clips: Float[Tensor, "b c t h w"], size: int) -> Float[Tensor, "b c2 t h2 w2"]:
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    whole: Tensor = unpatchify(clips, patch_size=size)  # type: ignore[no-untyped-call]
    return whole
