"""The kind ``cosmos``. Free of torch.

Published: nvidia/Cosmos-1.0-Tokenizer-CV8x8x8 on the Hugging Face hub, subfolder ``vae``. Its statistics of latents,
of each channel at each of 16 latent frames, are the defaults of AutoencoderKLCosmos.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from diffusability.models.presets.preset_spec import PresetSpec

_CONFIG: Mapping[str, Any] = {
    "_class_name": "AutoencoderKLCosmos",
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 16,
    "encoder_block_out_channels": (128, 256, 512, 512),
    "decode_block_out_channels": (256, 512, 512, 512),
    "attention_resolutions": (32,),
    "resolution": 1024,
    "num_layers": 2,
    "patch_size": 4,
    "patch_type": "haar",
    "scaling_factor": 1.0,
    "spatial_compression_ratio": 8,
    "temporal_compression_ratio": 8,
}


class CosmosSpec(PresetSpec):
    """The continuous video tokenizer of Cosmos 1.0: clips of 1 + 8n frames, f8 t8, 16 channels; deterministic."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset({"nvidia/Cosmos-1.0-Tokenizer-CV8x8x8"})

    kind: Literal["cosmos"] = "cosmos"
