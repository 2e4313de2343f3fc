"""The presets: published configurations, built at full or reduced width, or loaded. Free of torch.

The configurations are data: ``preset_configs/KIND.json`` has the entries of the ``config.json`` that was published with
the weights.
Each kind has a class for its line in ``dfz plugins``, its repositories and options of its own.
"""

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
    "decoder_base_dim",
)
#: Entries that must divide numbers of channels.
_DIVISORS = ("norm_num_groups", "attention_head_dim")
#: Classes whose configuration has statistics of each channel of the latents.
_WITH_STATISTICS = ("AutoencoderKLWan", "AutoencoderKLQwenImage", "AutoencoderKLCosmos")


class PresetSpec(DiffusersFamilySpec):
    """A published autoencoder; with random weights unless a path is given."""

    #: Where on the Hugging Face hub weights of that configuration are (except for the scaling of latents).
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

    @classmethod
    def published(cls) -> dict[str, Any]:
        """The published configuration, as in its config.json."""
        return _published_config(cls.model_fields["kind"].default)

    def check_class(self, config: Mapping[str, Any], where: str) -> None:
        wanted = self.published()["_class_name"]
        if config.get("_class_name") != wanted:
            raise CheckpointError(f"{where} holds an {config.get('_class_name')}, and kind {self.kind!r} is {wanted}")

    def config_of_file(self, file: Path) -> dict[str, Any]:
        """The published configuration with the widths of the file, whose name and place say nothing of its scaling."""
        published = self.published()
        if published["_class_name"] not in READ_BY_NAME:
            return published
        config = read_single_file(file)
        self.check_class(config, repr(str(file)))
        if config["latent_channels"] != published["latent_channels"]:
            raise CheckpointError(
                f"{str(file)!r} holds an autoencoder of {config['latent_channels']} latent channels, and kind"
                f" {self.kind!r} has {published['latent_channels']}; use kind 'diffusers'"
            )
        scaling = {name: published.get(name) for name in ("scaling_factor", "shift_factor") if name in config}
        return published | config | scaling

    def _config(self) -> dict[str, Any] | None:
        config = super()._config()
        if config is None and self.path in self.repositories:  # not downloaded yet
            return self.published()
        return config

    def architecture(self) -> dict[str, Any]:
        return super().architecture() or self.untrained()

    def untrained(self) -> dict[str, Any]:
        config = self.published()
        if self.width is not None:
            first = config.get("base_dim") or config.get("block_out_channels") or config["encoder_block_out_channels"]
            config = _scaled(config, self.width, first if isinstance(first, int) else first[0])
        name = LAYOUTS[config["_class_name"]].latent_channels
        if self.latent_channels not in (None, config[name]):
            config[name] = self.latent_channels
            if config["_class_name"] in _WITH_STATISTICS:  # statistics of other channels
                config |= {"latents_mean": None, "latents_std": None}
        return config


def _published_config(kind: str) -> dict[str, Any]:
    path = Path(__file__).with_name("preset_configs") / f"{kind}.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _scaled(config: dict[str, Any], width: int, first: int) -> dict[str, Any]:
    def scale(value: Any) -> Any:
        return [scale(item) for item in value] if isinstance(value, list | tuple) else value * width // first

    scaled = {name: scale(config[name]) for name in _WIDTHS if config.get(name) is not None}
    divisors = {name: gcd(config[name], width) for name in _DIVISORS if name in config}
    return config | scaled | divisors


class CogVideoXSpec(PresetSpec):
    """The autoencoder of CogVideoX: clips of 1 + 4n frames, f8 t4, 16 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"THUDM/CogVideoX-2b", "THUDM/CogVideoX-5b"})

    kind: Literal["cogvideox"] = "cogvideox"


class CosmosSpec(PresetSpec):
    """The continuous video tokenizer of Cosmos 1.0: clips of 1 + 8n frames, f8 t8, 16 channels; deterministic."""

    repositories: ClassVar[frozenset[str]] = frozenset({"nvidia/Cosmos-1.0-Tokenizer-CV8x8x8"})

    kind: Literal["cosmos"] = "cosmos"


class DCAESpec(PresetSpec):
    """The deep-compression autoencoder of SANA (DC-AE): images, f32, 32 channels; deterministic."""

    repositories: ClassVar[frozenset[str]] = frozenset({"mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers"})

    kind: Literal["dc-ae"] = "dc-ae"


class FluxSpec(PresetSpec):
    """The autoencoder of FLUX.1 (FluxAE): images, f8, 16 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset(
        {"black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-schnell"}
    )

    kind: Literal["flux"] = "flux"


class Flux2Spec(PresetSpec):
    """The autoencoder of FLUX.2: images, f8, 32 channels, or f16, 128 channels with patchify."""

    repositories: ClassVar[frozenset[str]] = frozenset({"black-forest-labs/FLUX.2-dev"})

    kind: Literal["flux2"] = "flux2"
    patchify: bool = Field(
        False,
        description="latents as its pipeline normalises them, 2 by 2 pixels in channels; leave it off where latents are"
        " downsampled, as in scale equivariance",
    )

    def patchifies(self) -> bool:
        return self.patchify


class HunyuanVideoSpec(PresetSpec):
    """The autoencoder of HunyuanVideo: clips of 1 + 4n frames, f8 t4, 16 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"hunyuanvideo-community/HunyuanVideo"})

    kind: Literal["hunyuan-video"] = "hunyuan-video"


class LTXVideoSpec(PresetSpec):
    """The autoencoder of LTX-Video 0.9: clips of 1 + 8n frames, f32 t8, 128 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"Lightricks/LTX-Video"})

    kind: Literal["ltx-video"] = "ltx-video"


class StableDiffusionSpec(PresetSpec):
    """The autoencoder of Stable Diffusion 1 and 2: images, f8, 4 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"stabilityai/sd-vae-ft-mse", "stabilityai/sd-vae-ft-ema"})

    kind: Literal["sd"] = "sd"


class StableDiffusion3Spec(PresetSpec):
    """The autoencoder of Stable Diffusion 3 and 3.5: images, f8, 16 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"stabilityai/stable-diffusion-3-medium-diffusers"})

    kind: Literal["sd3"] = "sd3"


class StableDiffusionXLSpec(PresetSpec):
    """The autoencoder of Stable Diffusion XL: images, f8, 4 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset(
        {"stabilityai/sdxl-vae", "stabilityai/stable-diffusion-xl-base-1.0"}
    )

    kind: Literal["sdxl"] = "sdxl"


class WanSpec(PresetSpec):
    """The autoencoder of Wan 2.1: clips of 1 + 4n frames, f8 t4, 16 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"Wan-AI/Wan2.1-T2V-1.3B-Diffusers"})

    kind: Literal["wan"] = "wan"
