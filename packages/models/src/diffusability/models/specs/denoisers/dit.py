"""The kind ``dit``. Free of torch."""

import re
from pathlib import Path
from typing import ClassVar, Literal

import attrs
from pydantic import Field, PositiveInt, field_validator, model_validator

from diffusability.core.errors import CheckpointError
from diffusability.core.specs.base import Spec
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import DenoiserSpec
from diffusability.models.specs.denoisers.dit_architecture import (
    DIT_SIZES,
    Activation,
    DiTArchitecture,
    DiTSize,
    HeadSize,
    Norm,
    Positions,
    TimeFrequencies,
    cut_into_patches,
    swiglu_size,
)
from diffusability.models.weight_files import check_weight_file

__all__ = ["DIT_SIZES", "DiTSize", "DiTSpec"]


def check_size(size: str) -> str:
    """The name of a size and a patch size. Raises ValueError for another text."""
    name, _, patch = size.partition("/")
    if name not in DIT_SIZES or not re.fullmatch("[1-9][0-9]*", patch):
        known = ", ".join(DIT_SIZES)
        raise ValueError(f"unknown DiT size {size!r}; expected one of {known}, then '/' and a patch size, as in 'S/2'")
    return size


class HeadSpec(Spec):
    """A wide, shallow head behind a DiT's blocks, for latents of many channels (Wang et al., Zheng et al. 2025)."""

    width: PositiveInt = Field(2048, description="width of a token in the head, divisible by num_heads")
    depth: PositiveInt = Field(2, description="transformer blocks of the head")
    num_heads: PositiveInt | None = Field(None, description="attention heads; default: one for every 128 of the width")

    @model_validator(mode="after")
    def _divisible(self) -> "HeadSpec":
        if self.width % self.heads:
            raise ValueError(f"width {self.width!r} is not divisible by num_heads {self.heads!r}")
        return self

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.num_heads or max(1, self.width // 128)


class DiTSpec(DenoiserSpec):
    """A diffusion transformer on latents of images or clips (Peebles & Xie 2023), with adaLN-Zero conditioning."""

    kind: Literal["dit"] = "dit"
    builds: ClassVar[str] = "diffusability.models.denoisers.dit:DiT"
    size: str = Field(
        "S/2", description="size and patch size: Ti, S, B, L or XL, a slash, latent pixels per patch side"
    )
    num_blocks: PositiveInt | None = Field(None, description="transformer blocks; default: those of the size")
    head: HeadSpec | None = Field(None, description="further blocks of another width: {width: 2048, depth: 2}")
    temporal_patch_size: PositiveInt = Field(1, description="latent frames per patch, for clips")
    mlp_ratio: float = Field(4.0, ge=0.1, description="hidden units of an MLP over the width of a token")
    class_conditional: bool = Field(True, description="use the data's class labels; false: ignore them")
    positions: Positions = Field(
        "sin-cos",
        description="sin-cos: sinusoids added to the tokens; rope: rotated queries and keys; both; 3-D for clips",
    )
    norm: Norm = Field("layer", description="layer: LayerNorm; rms: RMSNorm")
    activation: Activation = Field("gelu", description="gelu: tanh approximation; swiglu: 2/3 of the hidden units")
    qk_norm: bool = Field(False, description="RMS-normalise each head's queries and keys")
    learn_sigma: bool = Field(False, description="twice as many output channels, for objectives that learn a variance")
    self_conditioning: bool = Field(
        False, description="further input channels for an earlier estimate (Chen et al. 2022)"
    )
    time_frequencies: TimeFrequencies = Field(
        "dit", description="the time's sinusoids: as in the original DiT, as in diffusers' DiT, or as in SiT, of 1 - t"
    )
    pretrained: Path | None = Field(
        None, description="weights to start from: a published DiT (.pt, .safetensors), or one of diffusers or of ours"
    )

    @field_validator("size")
    @classmethod
    def _known_size(cls, size: str) -> str:
        return check_size(size)

    @property
    def _size(self) -> DiTSize:
        return DIT_SIZES[self.size.partition("/")[0]]

    @property
    def depth(self) -> int:
        """Transformer blocks, without those of the head."""
        return self.num_blocks or self._size.depth

    @property
    def hidden_size(self) -> int:
        """Width of a token."""
        return self._size.hidden_size

    @property
    def num_heads(self) -> int:
        """Attention heads."""
        return self._size.num_heads

    @property
    def patch_size(self) -> int:
        """Latent pixels per patch side."""
        return int(self.size.partition("/")[2])

    @property
    def mlp_size(self) -> int:
        """Hidden units of a block's MLP."""
        return self._mlp_size_of(self.hidden_size)

    def _mlp_size_of(self, width: int) -> int:
        plain = int(width * self.mlp_ratio)
        return swiglu_size(plain) if self.activation == "swiglu" else plain

    def architecture(self, latent_shape: tuple[int, ...], num_classes: int | None) -> DiTArchitecture:
        """What is built for latents of a shape. Raises ValueError when they cannot be cut into patches."""
        shape = cut_into_patches(self.size, latent_shape, self.patch_size, self.temporal_patch_size)
        options = {name: getattr(self, name) for name in attrs.fields_dict(DiTArchitecture) if hasattr(self, name)}
        if self.head is not None:
            options["head"] = HeadSize(
                depth=self.head.depth,
                width=self.head.width,
                num_heads=self.head.heads,
                mlp_size=self._mlp_size_of(self.head.width),
            )
        return DiTArchitecture(
            latent_shape=shape, num_classes=num_classes if self.class_conditional else None, **options
        )

    def check_inputs(self) -> None:
        if self.pretrained is not None:
            try:
                check_weight_file(self.pretrained)
            except CheckpointError as error:
                raise ValueError(str(error)) from None

    def num_parameters(self, context: BuildContext) -> int | None:
        if context.latent_shape is None:
            return None
        return self.architecture(context.latent_shape, context.num_classes).num_parameters
