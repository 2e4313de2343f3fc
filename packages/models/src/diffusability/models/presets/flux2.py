"""The kind ``flux2``. Free of torch.

Published: black-forest-labs/FLUX.2-dev on the Hugging Face hub, subfolder ``vae``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from diffusability.models.presets.preset_spec import PresetSpec

_CONFIG: Mapping[str, Any] = {
    "_class_name": "AutoencoderKLFlux2",
    "act_fn": "silu",
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 32,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "batch_norm_eps": 1e-4,
    "batch_norm_momentum": 0.1,
    "patch_size": (2, 2),
    "mid_block_add_attention": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
}


class Flux2Spec(PresetSpec):
    """The autoencoder of FLUX.2: images, f8, 32 channels, or f16, 128 channels with patchify."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset({"black-forest-labs/FLUX.2-dev"})

    kind: Literal["flux2"] = "flux2"
    patchify: bool = Field(
        False,
        description="latents as its pipeline normalises them, 2 by 2 pixels in channels; leave it off where latents are"
        " downsampled, as in scale equivariance",
    )

    def patchifies(self) -> bool:
        return self.patchify
