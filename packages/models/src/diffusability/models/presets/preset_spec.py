"""What the presets have in common: a published configuration, built at full or reduced width, or loaded. No torch."""

import json
from collections.abc import Mapping
from math import gcd
from typing import Any, ClassVar

from pydantic import Field, PositiveInt, field_validator, model_validator

from diffusability.core.errors import CheckpointError
from diffusability.models.diffusers_layout import LAYOUTS
from diffusability.models.diffusers_spec import DiffusersFamilySpec

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
