"""Wan's and Qwen-Image's causal autoencoders, made fit for training."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.shapes import Images, Latents
from diffusability.models.autoencoders.diffusers_autoencoder import DiffusersAutoencoder

CACHED_CLASSES = frozenset({"AutoencoderKLWan", "AutoencoderKLQwenImage"})
_FRAMES_PER_CHUNK = 4


class CachedCausalAutoencoder(DiffusersAutoencoder):
    """Encodes and decodes clips chunk by chunk; each convolution keeps frames of the chunk before in a cache.

    In eval mode it is diffusers' own model. In training mode the same chunks run without two things that spoil
    gradients: the clamp of decoded clips to [-1, 1], outside of which no gradient flows, and caches that a block writes
    to while it runs, which make activation checkpointing compute something else the second time.
    """

    def __init__(self, *, model: nn.Module, config: Mapping[str, Any], patchify: bool = False) -> None:
        super().__init__(model=model, config=config, patchify=patchify)
        # In a tuple, so that the halves are not registered a second time and keep their parameters' names.
        self._halves = (_Chunk(self.model.encoder), _Chunk(self.model.decoder))

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """Encoder and decoder of one chunk, which take caches and give the next ones as values."""
        return self._halves

    def run_encoder(self, images: Images) -> Any:
        """The encoded clip: diffusers' own in eval mode, chunks with caches passed from one to the next in training."""
        if not self.training or self.model.use_tiling or self.model.use_slicing:
            return self.model.encode(images)
        if self.config.get("patch_size"):
            images = _patches(images, self.config["patch_size"])
        bounds = [0, *range(1, images.shape[2] + 1, _FRAMES_PER_CHUNK)]
        chunks = [images[:, :, first:last] for first, last in pairwise(bounds)]
        moments = self.model.quant_conv(self._chunked(0, chunks))
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
        from diffusers.models.modeling_outputs import AutoencoderKLOutput

        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments))

    def run_decoder(self, latents: Latents) -> Float[Tensor, "b image_channels *image_t image_h image_w"]:
        """The decoded clip; clamped to [-1, 1] in eval mode, as diffusers does, and as it is in training."""
        if not self.training or self.model.use_tiling or self.model.use_slicing:
            decoded: Tensor = self.model.decode(latents).sample
            return decoded
        frames = list(self.model.post_quant_conv(latents).split(1, dim=2))
        decoded = self._chunked(1, frames)
        if self.config.get("patch_size"):
            decoded = _images(decoded, self.config["patch_size"])
        return decoded

    def _chunked(self, half: int, chunks: list[Tensor]) -> Float[Tensor, "b c *t h w"]:
        """Runs the encoder (0) or the decoder (1) over chunks, in order."""
        self.model.clear_cache()
        counts = (self.model._enc_conv_num, self.model._conv_num)
        caches: tuple[Any, ...] = (None,) * counts[half]
        first_differs = half == 1 and self.config["_class_name"] == "AutoencoderKLWan"
        outputs = []
        for index, chunk in enumerate(chunks):
            output, *rest = self._halves[half](chunk, first_differs and index == 0, *caches)
            caches = tuple(rest)
            outputs.append(output)
        return torch.cat(outputs, dim=2)


class _Chunk(nn.Module):
    """An encoder or decoder on one chunk of frames, as a function of the caches of the chunk before."""

    def __init__(self, half: nn.Module) -> None:
        super().__init__()
        self.wrapped: Any = half

    def forward(self, chunk: Float[Tensor, "b c t h w"], is_first: bool, *caches: Any) -> tuple[Any, ...]:
        """The chunk's output, and the caches for the next chunk."""
        after = list(caches)
        extra = {"first_chunk": True} if is_first else {}
        return (self.wrapped(chunk, feat_cache=after, feat_idx=[0], **extra), *after)


def _patches(clips: Float[Tensor, "b c t h w"], size: int) -> Float[Tensor, "b c2 t h2 w2"]:
    from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

    patched: Tensor = patchify(clips, patch_size=size)  # type: ignore[no-untyped-call]
    return patched


def _images(clips: Float[Tensor, "b c t h w"], size: int) -> Float[Tensor, "b c2 t h2 w2"]:
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    whole: Tensor = unpatchify(clips, patch_size=size)  # type: ignore[no-untyped-call]
    return whole
