"""The scaling of latents that comes with an autoencoder of diffusers, as its pipelines apply it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.models.specs.autoencoders.diffusers_layout import info_of

#: Cosmos' pipelines scale latents to this standard deviation: an entry of their scheduler, not of the autoencoder.
_COSMOS_SIGMA_DATA = 0.5


def normalizer_of(config: Mapping[str, Any], buffers: tuple[Tensor | None, Tensor | None]) -> LatentNormalizer | None:
    """The map ``(z - m) s / d``, from ``latents_mean`` m, or ``shift_factor``, ``scaling_factor`` s, ``latents_std`` d.

    Mean and deviation come from the configuration or, for LTX-Video, from buffers. Those of Cosmos are of each channel
    at each latent frame. None when the configuration has neither, or statistics of another number of channels.
    """
    channels = info_of(config).latent_channels
    if config["_class_name"] == "AutoencoderRAE":  # its own encode and decode do that
        return LatentNormalizer.identity(channels)
    mean, std = (
        torch.as_tensor(configured, dtype=torch.float32).flatten() if configured is not None else buffer
        for configured, buffer in zip((config.get("latents_mean"), config.get("latents_std")), buffers, strict=True)
    )
    scale = config.get("scaling_factor")
    if mean is None and std is None and scale is None:
        return None
    mean = torch.full((channels,), float(config.get("shift_factor") or 0.0)) if mean is None else mean
    std = torch.ones(channels) if std is None else std
    if len(mean) % channels or len(mean) != len(std):
        return None
    std = std / float(scale or 1.0)
    if config["_class_name"] == "AutoencoderKLCosmos":
        std = std / _COSMOS_SIGMA_DATA
    if len(mean) > channels:
        mean, std = mean.view(channels, -1), std.view(channels, -1)
    return LatentNormalizer(mean, std)


def flux2_normalizer(norm: nn.Module, patchify: bool) -> LatentNormalizer:
    """The statistics of FLUX.2's batch normalisation, of channels of 2 by 2 latent pixels.

    Without ``patchify``, the four statistics of each channel are taken together.
    """
    mean: Tensor = norm.running_mean  # type: ignore[assignment]
    variance: Tensor = norm.running_var  # type: ignore[assignment]
    fine = LatentNormalizer(mean.float(), (variance.float() + float(norm.eps)).sqrt())  # type: ignore[arg-type]
    if patchify:
        return fine
    return LatentNormalizer(fine.mean.view(-1, 4), fine.std.view(-1, 4)).per_channel()
