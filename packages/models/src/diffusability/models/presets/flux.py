"""The kind ``flux``. Free of torch.

Published: black-forest-labs/FLUX.1-dev and FLUX.1-schnell on the Hugging Face hub, subfolder ``vae``.
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
    "latent_channels": 16,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


class FluxSpec(PresetSpec):
    """The autoencoder of FLUX.1 (FluxAE): images, f8, 16 channels."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset(
        {"black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-schnell"}
    )

    kind: Literal["flux"] = "flux"
