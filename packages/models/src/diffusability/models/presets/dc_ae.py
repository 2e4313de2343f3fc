"""The kind ``dc-ae``. Free of torch.

Published: mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers on the Hugging Face hub. Those at f64 and f128 have other
configurations of the same class: give their folder as path.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from diffusability.models.presets.preset_spec import PresetSpec

_CONFIG: Mapping[str, Any] = {
    "_class_name": "AutoencoderDC",
    "in_channels": 3,
    "latent_channels": 32,
    "attention_head_dim": 32,
    "encoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
    "decoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
    "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
    "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
    "encoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "decoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "upsample_block_type": "interpolate",
    "downsample_block_type": "Conv",
    "decoder_norm_types": "rms_norm",
    "decoder_act_fns": "silu",
    "scaling_factor": 0.41407,
}


class DCAESpec(PresetSpec):
    """The deep-compression autoencoder of SANA (DC-AE): images, f32, 32 channels; deterministic."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset({"mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers"})

    kind: Literal["dc-ae"] = "dc-ae"
