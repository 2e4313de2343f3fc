"""The kind ``sd``. Free of torch.

Published: stabilityai/sd-vae-ft-mse and sd-vae-ft-ema on the Hugging Face hub (also in the pipelines, subfolder
``vae``).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from diffusability.models.presets.preset_spec import PresetSpec

_CONFIG: Mapping[str, Any] = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 256,
    "scaling_factor": 0.18215,
}


class StableDiffusionSpec(PresetSpec):
    """The autoencoder of Stable Diffusion 1 and 2: images, f8, 4 channels."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset({"stabilityai/sd-vae-ft-mse", "stabilityai/sd-vae-ft-ema"})

    kind: Literal["sd"] = "sd"
