"""The kind ``cogvideox``. Free of torch.

Published: THUDM/CogVideoX-2b on the Hugging Face hub, subfolder ``vae`` (CogVideoX-5b: the same with scaling factor
0.7).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from diffusability.models.presets.preset_spec import PresetSpec

_CONFIG: Mapping[str, Any] = {
    "_class_name": "AutoencoderKLCogVideoX",
    "act_fn": "silu",
    "block_out_channels": (128, 256, 256, 512),
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 16,
    "layers_per_block": 3,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "sample_height": 480,
    "sample_width": 720,
    "scaling_factor": 1.15258426,
    "temporal_compression_ratio": 4,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


class CogVideoXSpec(PresetSpec):
    """The autoencoder of CogVideoX: clips of 1 + 4n frames, f8 t4, 16 channels."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset({"THUDM/CogVideoX-2b", "THUDM/CogVideoX-5b"})

    kind: Literal["cogvideox"] = "cogvideox"
