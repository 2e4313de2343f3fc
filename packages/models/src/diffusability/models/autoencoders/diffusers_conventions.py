"""What classes of diffusers expect of pixels and frames, on the way into a model and out of it."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusability.core.numerics.axes import as_clips, as_frames, per_channel
from diffusability.core.shapes import Images, Latents
from diffusability.models.specs.autoencoders.diffusers_classes import Layout

#: A tensor on the side of the model, which may have further frames and channels, or frames among its samples.
Given = Float[Tensor, "n channels *frames rows columns"]
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def pixels_in(images: Images, layout: Layout, temporal_factor: int) -> Given:
    """Images or clips in [-1, 1] as the class takes them."""
    if layout.pixels != "signed":
        images = images.add(1).div(2)
    if layout.pixels == "imagenet":
        mean, std = _statistics(images)
        images = (images - mean) / std
    if layout.alpha:
        images = F.pad(images, (0, 0, 0, 0, 0, 1), value=1.0)
    if layout.frames == "one":
        return images.unsqueeze(2)
    if layout.frames == "padded" and temporal_factor > 1:
        return torch.cat([images[:, :, :1].expand(-1, -1, temporal_factor - 1, -1, -1), images], dim=2)
    return as_frames(images) if layout.frames == "batch" else images


def pixels_out(decoded: Given, layout: Layout, samples: int) -> Images:
    """What the class decoded, as images or clips in [-1, 1]; ``samples`` is the number of those."""
    if layout.frames == "one":
        decoded = decoded.squeeze(2)
    if layout.frames == "batch":
        decoded = as_clips(decoded, samples)
    if layout.alpha:
        decoded = decoded[:, :-1]
    if layout.pixels == "imagenet":
        mean, std = _statistics(decoded)
        decoded = decoded * std + mean
    return decoded if layout.pixels == "signed" else decoded.mul(2).sub(1)


def moments_out(moments: Given, layout: Layout, samples: int) -> Latents:
    """Means or log variances as latents of as many images or clips as ``samples``."""
    if layout.frames == "one":
        return moments.squeeze(2)
    if layout.frames != "batch":
        return moments
    return as_clips(moments, samples)


def latents_in(latents: Latents, layout: Layout) -> Given:
    """Latents as the class takes them."""
    if layout.frames == "one":
        return latents.unsqueeze(2)
    return as_frames(latents) if layout.frames == "batch" else latents


def decoder_settings(layout: Layout, config: dict[str, Any], latents: Latents) -> dict[str, Any]:
    """Arguments of ``decode`` besides the latents.

    A decoder that can also denoise is asked for time 0, without noise. One that draws noise draws the same in each
    call: that of seed 0.
    """
    settings: dict[str, Any] = {}
    if config.get("timestep_conditioning"):
        settings["temb"] = latents.new_zeros(len(latents))
    if layout.frames == "batch":
        settings["num_frames"] = latents.shape[2]
    if layout.noise:
        settings["generator"] = torch.Generator(latents.device).manual_seed(0)
    return settings


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (per_channel(images.new_tensor(values), images) for values in _IMAGENET)
    return mean, std
