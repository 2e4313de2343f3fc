"""What the presets have in common: a published configuration, built at full or reduced width, or loaded. No torch."""

import json
from collections.abc import Mapping
from math import gcd
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from diffusability.core.errors import CheckpointError
from diffusability.models.specs.autoencoders.diffusers import DiffusersFamilySpec
from diffusability.models.specs.autoencoders.diffusers_classes import LAYOUTS
from diffusability.models.specs.autoencoders.single_file import READ_BY_NAME, read_single_file

#: Entries that are numbers of channels, to be scaled with the width.
_WIDTHS = (
    "block_out_channels",
    "decoder_block_out_channels",
    "encoder_block_out_channels",
    "decode_block_out_channels",
    "base_dim",
)
#: Entries that must divide numbers of channels.
_DIVISORS = ("norm_num_groups", "attention_head_dim")


class PresetSpec(DiffusersFamilySpec):
    """A published autoencoder; with random weights unless a path is given."""

    #: The published configuration, as in its config.json.
    published: ClassVar[Mapping[str, Any]]
    #: Where on the Hugging Face hub weights of that configuration are (but for the scaling of latents).
    repositories: ClassVar[frozenset[str]] = frozenset()

    width: PositiveInt | None = Field(
        None,
        description="channels of the encoder's first level, a multiple of 8; all levels scale; default: as published",
    )
    latent_channels: PositiveInt | None = Field(
        None, description="from scratch with another bottleneck; default: as published"
    )

    @field_validator("width")
    @classmethod
    def _multiple_of_8(cls, width: int | None) -> int | None:
        if width is not None and width % 8:
            raise ValueError(f"width is {width!r}; expected a multiple of 8")
        return width

    @model_validator(mode="after")
    def _loaded_as_it_is(self) -> "PresetSpec":
        changed = [name for name in ("width", "latent_channels") if getattr(self, name) is not None]
        if self.path is not None and changed:
            raise ValueError(
                f"{' and '.join(changed)} cannot be chosen for weights that are loaded from {self.path!r}; for another"
                " bottleneck on trained weights, see the kind channel-variant"
            )
        return self

    def check_class(self, config: Mapping[str, Any], where: str) -> None:
        wanted = self.published["_class_name"]
        if config.get("_class_name") != wanted:
            raise CheckpointError(f"{where} holds an {config.get('_class_name')}, and kind {self.kind!r} is {wanted}")

    def config_of_file(self, file: Path) -> dict[str, Any]:
        """The published configuration with the widths of the file, whose name and place say nothing of its scaling."""
        published: dict[str, Any] = json.loads(json.dumps(self.published))
        if published["_class_name"] not in READ_BY_NAME:
            return published
        found = read_single_file(file)
        self.check_class(found, repr(str(file)))
        if found["latent_channels"] != published["latent_channels"]:
            raise CheckpointError(
                f"{str(file)!r} holds an autoencoder of {found['latent_channels']} latent channels, and kind"
                f" {self.kind!r} has {published['latent_channels']}; use kind 'diffusers'"
            )
        scaling = {name: published.get(name) for name in ("scaling_factor", "shift_factor") if name in found}
        return published | found | scaling

    def _config(self) -> dict[str, Any] | None:
        config = super()._config()
        if config is None and self.path in self.repositories:  # not downloaded yet
            return json.loads(json.dumps(self.published))  # type: ignore[no-any-return]
        return config

    def architecture(self) -> dict[str, Any]:
        return super().architecture() or self.untrained()

    def untrained(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(json.dumps(self.published))  # lists, as in a config.json
        if self.width is not None:
            first = config.get("base_dim") or config.get("block_out_channels") or config["encoder_block_out_channels"]
            config = _scaled(config, self.width, first if isinstance(first, int) else first[0])
        name = LAYOUTS[config["_class_name"]].latent_channels
        if self.latent_channels not in (None, config[name]):
            config[name] = self.latent_channels
            if config["_class_name"] in ("AutoencoderKLWan", "AutoencoderKLCosmos"):  # statistics of other channels
                config |= {"latents_mean": None, "latents_std": None}
        return config


def _scaled(config: dict[str, Any], width: int, first: int) -> dict[str, Any]:
    def scale(value: Any) -> Any:
        return [scale(item) for item in value] if isinstance(value, list | tuple) else value * width // first

    scaled = {name: scale(config[name]) for name in _WIDTHS if config.get(name) is not None}
    divisors = {name: gcd(config[name], width) for name in _DIVISORS if name in config}
    return config | scaled | divisors


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
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


class StableDiffusion3Spec(PresetSpec):
    """The autoencoder of Stable Diffusion 3 and 3.5: images, f8, 16 channels."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset({"stabilityai/stable-diffusion-3-medium-diffusers"})

    kind: Literal["sd3"] = "sd3"


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
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}


class StableDiffusionXLSpec(PresetSpec):
    """The autoencoder of Stable Diffusion XL: images, f8, 4 channels."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset(
        {"stabilityai/sdxl-vae", "stabilityai/stable-diffusion-xl-base-1.0"}
    )

    kind: Literal["sdxl"] = "sdxl"


_CONFIG: Mapping[str, Any] = {
    "_class_name": "AutoencoderKLWan",
    "base_dim": 96,
    "z_dim": 16,
    "dim_mult": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "attn_scales": (),
    "temperal_downsample": (False, True, True),
    "dropout": 0.0,
    "latents_mean": (
        -0.7571,
        -0.7089,
        -0.9113,
        0.1075,
        -0.1745,
        0.9653,
        -0.1517,
        1.5508,
        0.4134,
        -0.0715,
        0.5517,
        -0.3632,
        -0.1922,
        -0.9497,
        0.2503,
        -0.2921,
    ),
    "latents_std": (
        2.8184,
        1.4541,
        2.3275,
        2.6558,
        1.2196,
        1.7708,
        2.6052,
        2.0743,
        3.2687,
        2.1526,
        2.8652,
        1.5579,
        1.6382,
        1.1253,
        2.8251,
        1.9160,
    ),
}


class WanSpec(PresetSpec):
    """The autoencoder of Wan 2.1: clips of 1 + 4n frames, f8 t4, 16 channels."""

    published: ClassVar[Mapping[str, Any]] = _CONFIG
    repositories: ClassVar[frozenset[str]] = frozenset({"Wan-AI/Wan2.1-T2V-1.3B-Diffusers"})

    kind: Literal["wan"] = "wan"
