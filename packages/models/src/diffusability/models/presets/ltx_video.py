"""The kind ``ltx-video``. Free of torch.

Published: Lightricks/LTX-Video on the Hugging Face hub, subfolder ``vae``. Later versions (0.9.1, 0.9.5) have other
configurations of the same class: give their folder as path.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from diffusability.models.presets.preset_spec import PresetSpec

_CONFIG: Mapping[str, Any] = {
    "_class_name": "AutoencoderKLLTXVideo",
    "block_out_channels": (128, 256, 512, 512),
    "decoder_block_out_channels": (128, 256, 512, 512),
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "layers_per_block": (4, 3, 3, 3, 4),
    "decoder_layers_per_block": (4, 3, 3, 3, 4),
    "spatio_temporal_scaling": (True, True, True, False),
    "decoder_spatio_temporal_scaling": (True, True, True, False),
    "patch_size": 4,
    "patch_size_t": 1,
    "resnet_norm_eps": 1e-6,
    "scaling_factor": 1.0,
    "encoder_causal": True,
    "decoder_causal": False,
    "timestep_conditioning": False,
}


class LTXVideoSpec(PresetSpec):
    """The autoencoder of LTX-Video 0.9: clips of 1 + 8n frames, f32 t8, 128 channels."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset({"Lightricks/LTX-Video"})

    kind: Literal["ltx-video"] = "ltx-video"
