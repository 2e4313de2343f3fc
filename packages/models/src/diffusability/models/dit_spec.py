"""The kind ``dit``. Free of torch."""

import re
from typing import TYPE_CHECKING, Literal

import attrs
from pydantic import Field, field_validator

from diffusability.core.build import BuildContext
from diffusability.core.errors import SpecError
from diffusability.core.specs.components import DenoiserSpec
from diffusability.models.parameter_counts import dit_parameters

if TYPE_CHECKING:
    from diffusability.core.denoiser import Denoiser


@attrs.frozen
class DiTSize:
    """Depth and width behind the name of a DiT."""

    depth: int
    hidden_size: int
    num_heads: int


#: S to XL as in Peebles & Xie (2023), table 1; Ti is for tests and laptops.
DIT_SIZES = {
    "Ti": DiTSize(6, 192, 3),
    "S": DiTSize(12, 384, 6),
    "B": DiTSize(12, 768, 12),
    "L": DiTSize(24, 1024, 16),
    "XL": DiTSize(28, 1152, 16),
}


class DiTSpec(DenoiserSpec):
    """A diffusion transformer on image latents (Peebles & Xie 2023), with adaLN-Zero conditioning."""

    kind: Literal["dit"] = "dit"
    size: str = Field(
        "S/2", description="size and patch size: Ti, S, B, L or XL, a slash, latent pixels per patch side"
    )
    mlp_ratio: float = Field(4.0, ge=0.1, description="hidden units of an MLP over the width of a token")

    @field_validator("size")
    @classmethod
    def _known_size(cls, size: str) -> str:
        name, _, patch = size.partition("/")
        if name not in DIT_SIZES or not re.fullmatch("[1-9][0-9]*", patch):
            known = ", ".join(DIT_SIZES)
            raise ValueError(
                f"unknown DiT size {size!r}; expected one of {known}, then '/' and a patch size, as in 'S/2'"
            )
        return size

    @property
    def _size(self) -> DiTSize:
        return DIT_SIZES[self.size.partition("/")[0]]

    @property
    def depth(self) -> int:
        """Transformer blocks."""
        return self._size.depth

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
        return int(self.hidden_size * self.mlp_ratio)

    def check_latents(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The latent shape, if it is a ``(c, h, w)`` that can be cut into patches. Raises ValueError if not."""
        if len(shape) != 3:
            raise ValueError(f"DiT {self.size!r} works on image latents of shape (c, h, w), got {shape!r}")
        channels, height, width = shape
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"latents of {height}x{width} cannot be cut into patches of {self.patch_size}x{self.patch_size}"
                f" (DiT {self.size!r}); expected sides divisible by {self.patch_size}"
            )
        return channels, height, width

    def num_parameters(self, context: BuildContext) -> int | None:
        if context.latent_shape is None:
            return None
        return dit_parameters(
            latent_channels=self.check_latents(context.latent_shape)[0],
            num_classes=context.num_classes,
            patch_size=self.patch_size,
            depth=self.depth,
            hidden_size=self.hidden_size,
            mlp_size=self.mlp_size,
        )

    def build(self, context: BuildContext) -> "Denoiser":
        from diffusability.models.dit import DiT

        if context.latent_shape is None:
            raise SpecError(f"DiT {self.size!r} needs to know the shape of its latents, and the context has none")
        return DiT(
            latent_shape=self.check_latents(context.latent_shape),
            num_classes=context.num_classes,
            patch_size=self.patch_size,
            depth=self.depth,
            hidden_size=self.hidden_size,
            num_heads=self.num_heads,
            mlp_size=self.mlp_size,
        )
