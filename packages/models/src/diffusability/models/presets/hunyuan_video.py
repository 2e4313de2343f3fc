"""The kind ``hunyuan-video``. Free of torch.

Published: hunyuanvideo-community/HunyuanVideo on the Hugging Face hub, subfolder ``vae``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from diffusability.models.presets.preset_spec import PresetSpec

_CONFIG: Mapping[str, Any] = {
    "_class_name": "AutoencoderKLHunyuanVideo",
    "act_fn": "silu",
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("HunyuanVideoDownBlock3D",) * 4,
    "up_block_types": ("HunyuanVideoUpBlock3D",) * 4,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 16,
    "layers_per_block": 2,
    "mid_block_add_attention": True,
    "norm_num_groups": 32,
    "scaling_factor": 0.476986,
    "spatial_compression_ratio": 8,
    "temporal_compression_ratio": 4,
}


class HunyuanVideoSpec(PresetSpec):
    """The autoencoder of HunyuanVideo: clips of 1 + 4n frames, f8 t4, 16 channels."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset({"hunyuanvideo-community/HunyuanVideo"})

    kind: Literal["hunyuan-video"] = "hunyuan-video"
