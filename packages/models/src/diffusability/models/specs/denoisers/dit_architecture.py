"""What defines a diffusion transformer's parameters and function. Free of torch."""

from typing import Literal

import attrs


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

Positions = Literal["sin-cos", "rope", "both"]
Norm = Literal["layer", "rms"]
Activation = Literal["gelu", "swiglu"]
TimeFrequencies = Literal["dit", "diffusers", "sit"]

#: Sinusoids that a time is embedded in.
FREQUENCY_SIZE = 256


def swiglu_size(mlp_size: int) -> int:
    """Hidden units of a SwiGLU MLP with about as many weights as a plain one (Shazeer 2020): 2/3, in whole eights."""
    return max(8, round(mlp_size * 2 / 3 / 8) * 8)


@attrs.frozen(kw_only=True)
class HeadSize:
    """Depth and width of a head behind a DiT's blocks.

    Attributes:
        depth: transformer blocks.
        width: width of a token.
        num_heads: attention heads.
        mlp_size: hidden units of a block's MLP.
    """

    depth: int
    width: int
    num_heads: int
    mlp_size: int


@attrs.frozen(kw_only=True)
class DiTArchitecture:
    """All that two DiTs must share to load each other's weights, and to compute the same.

    Attributes:
        latent_shape: shape ``(c, h, w)`` or ``(c, t, h, w)`` of one sample.
        num_classes: class labels; None for an unconditional model.
        depth: transformer blocks.
        hidden_size: width of a token.
        num_heads: attention heads.
        mlp_size: hidden units of a block's MLP.
        patch_size: latent pixels per patch side.
        temporal_patch_size: latent frames per patch; 1 for images.
        positions: sinusoids added to the tokens, rotations of queries and keys, or both.
        norm: LayerNorm or RMSNorm, without weights of their own.
        activation: GELU (tanh) or SwiGLU.
        qk_norm: whether each head's queries and keys are RMS-normalised.
        learn_sigma: whether the prediction has twice the latents' channels.
        self_conditioning: whether the input also has the channels of an earlier estimate.
        time_frequencies: the time's sinusoids, as in the original, as in diffusers' DiT, or as in SiT.
        head: what stands behind the blocks; None for nothing.
    """

    latent_shape: tuple[int, ...]
    num_classes: int | None
    depth: int
    hidden_size: int
    num_heads: int
    mlp_size: int
    patch_size: int
    temporal_patch_size: int = 1
    positions: Positions = "sin-cos"
    norm: Norm = "layer"
    activation: Activation = "gelu"
    qk_norm: bool = False
    learn_sigma: bool = False
    self_conditioning: bool = False
    time_frequencies: TimeFrequencies = "dit"
    head: HeadSize | None = None

    @property
    def of_head(self) -> "DiTArchitecture":
        """What the head's blocks and the final layer behind it are made of."""
        assert self.head is not None
        head = self.head
        return attrs.evolve(
            self,
            depth=head.depth,
            hidden_size=head.width,
            num_heads=head.num_heads,
            mlp_size=head.mlp_size,
            head=None,
        )

    @property
    def patch(self) -> tuple[int, ...]:
        """Size of a patch along each axis of a latent but the channels."""
        temporal = (self.temporal_patch_size,) if len(self.latent_shape) == 4 else ()
        return (*temporal, self.patch_size, self.patch_size)

    @property
    def patch_volume(self) -> int:
        """Latent pixels of a patch."""
        return self.patch_size**2 * (self.temporal_patch_size if len(self.latent_shape) == 4 else 1)

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each axis."""
        return tuple(length // size for length, size in zip(self.latent_shape[1:], self.patch, strict=True))

    @property
    def in_channels(self) -> int:
        """Channels that are cut into patches."""
        return self.latent_shape[0] * (2 if self.self_conditioning else 1)

    @property
    def out_channels(self) -> int:
        """Channels of the prediction."""
        return self.latent_shape[0] * (2 if self.learn_sigma else 1)

    @property
    def num_parameters(self) -> int:
        """Parameters of the ``DiT``, in closed form. The positions are fixed and do not count."""
        size = self.hidden_size
        embeddings = _linear(FREQUENCY_SIZE, size) + _linear(size, size)
        if self.num_classes is not None:
            embeddings += (self.num_classes + 1) * size
        last, head = self, 0
        if self.head is not None:
            last = self.of_head
            head = last._block_parameters + (_linear(size, last.hidden_size) if last.hidden_size != size else 0)
        final = _linear(last.hidden_size, 2 * last.hidden_size)
        final += _linear(last.hidden_size, self.out_channels * self.patch_volume)
        return embeddings + self._block_parameters + head + final

    @property
    def _block_parameters(self) -> int:
        """Of the blocks, and of what embeds patches for them."""
        size, mlp = self.hidden_size, self.mlp_size
        first = (2 if self.activation == "swiglu" else 1) * mlp
        block = _linear(size, 3 * size) + _linear(size, size) + _linear(size, first) + _linear(mlp, size)
        block += _linear(size, 6 * size)
        if self.qk_norm:
            block += 2 * (size // self.num_heads)
        return _linear(self.in_channels * self.patch_volume, size) + self.depth * block

    @property
    def differences(self) -> str:
        """In what it differs from the DiT of Peebles & Xie (2023), in words; empty for the original's options."""
        square = len(self.latent_shape) == 3 and self.latent_shape[1] == self.latent_shape[2]
        plain = self.mlp_size == 4 * self.hidden_size
        options = {
            f"latents of shape {self.latent_shape!r} are not square images": not square,
            "no classes": self.num_classes is None,
            f"positions {self.positions!r}": self.positions != "sin-cos",
            f"norm {self.norm!r}": self.norm != "layer",
            f"activation {self.activation!r}": self.activation != "gelu",
            f"{self.mlp_size} hidden units": self.activation == "gelu" and not plain,
            "qk_norm": self.qk_norm,
            "self_conditioning": self.self_conditioning,
            f"time_frequencies {self.time_frequencies!r}": self.time_frequencies == "sit",
            "a head": self.head is not None,
        }
        return ", ".join(option for option, differs in options.items() if differs)

    @property
    def is_original(self) -> bool:
        """True for the parameters and, except for ``time_frequencies``, the function of Peebles & Xie (2023)."""
        return not self.differences


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def cut_into_patches(
    name: str, shape: tuple[int, ...], patch_size: int, temporal_patch_size: int = 1
) -> tuple[int, ...]:
    """The latent shape, if it is a ``(c, *t, h, w)`` of whole patches. Raises ValueError if not."""
    if len(shape) not in {3, 4}:
        raise ValueError(f"DiT {name!r} works on latents of shape (c, h, w) or (c, t, h, w), got {shape!r}")
    height, width = shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"latents of {height}x{width} cannot be cut into patches of {patch_size}x{patch_size}"
            f" (DiT {name!r}); expected sides divisible by {patch_size}"
        )
    frames = shape[1] if len(shape) == 4 else None
    if frames is None and temporal_patch_size != 1:
        raise ValueError(
            f"temporal_patch_size is {temporal_patch_size!r}, and the latents have shape {shape!r}, without frames;"
            " expected 1"
        )
    if frames is not None and frames % temporal_patch_size:
        raise ValueError(
            f"clips of {frames} latent frames cannot be cut into patches of {temporal_patch_size} frames"
            f" (DiT {name!r}); expected a number of frames divisible by temporal_patch_size {temporal_patch_size}"
        )
    return shape
