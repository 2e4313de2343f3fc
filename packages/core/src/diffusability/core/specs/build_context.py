"""What a spec's ``build`` learns about the run. Free of torch, so that checking can use it too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from diffusability.core.errors import SpecError


@attrs.frozen(kw_only=True)
class Steps:
    """Sizes ``first + n * step`` with n >= 0: frames of a clip, or pixels of a side.

    Attributes:
        first: the smallest size.
        step: between sizes; 0 for one size only.
        latent_first: size of the latents of the smallest.
        latent_step: size that each step adds to the latents.
    """

    first: int
    step: int
    latent_first: int
    latent_step: int

    def latent_size(self, size: int) -> int | None:
        """The size of the latents; None for a size that is none of these."""
        beyond = size - self.first
        if beyond < 0 or (beyond % self.step if self.step else beyond):
            return None
        return self.latent_first + (beyond // self.step if self.step else 0) * self.latent_step

    def nearest(self, size: int) -> str:
        """The sizes next to one that is none of these, as ``22 or 39``."""
        below = self.first + max(0, size - self.first) // self.step * self.step if self.step else self.first
        return f"{below} or {below + self.step}" if self.step and below <= size else str(below)


@attrs.frozen(kw_only=True)
class AutoencoderInfo:
    """Shape facts of an autoencoder.

    Attributes:
        latent_channels: channels of the latents.
        spatial_factor: image pixels per latent pixel along height and width.
        temporal_factor: frames per latent frame; 1 for images.
        image_channels: channels of the images.
        takes_clips: True for an autoencoder of clips ``c t h w``; an image is then a clip of one frame.
        frames: numbers of frames that it takes; None for ``1 + n * temporal_factor`` (causal autoencoders).
        height, width: sides that it takes; None for all multiples of the spatial factor.
    """

    latent_channels: int
    spatial_factor: int
    temporal_factor: int = 1
    image_channels: int = 3
    takes_clips: bool = False
    frames: Steps | None = None
    height: Steps | None = None
    width: Steps | None = None

    def latent_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape ``(c, h, w)`` or ``(c, t, h, w)`` of the latents of one image or clip of that shape.

        A clip of ``1 + n * temporal_factor`` frames gives ``1 + n`` latent frames (causal autoencoders), unless
        ``frames`` says otherwise.

        Raises:
            ValueError: the factor does not divide the image's sides, the channels differ, the number of frames is none
                of these, or an image is given where a clip is expected, or a clip where an image is.
        """
        channels, *frames, height, width = image_shape
        if channels != self.image_channels:
            raise ValueError(f"images have {channels} channels, the autoencoder takes {self.image_channels}")
        if height % self.spatial_factor or width % self.spatial_factor:
            raise ValueError(
                f"an image of {height}x{width} pixels is not divisible by the autoencoder's spatial factor"
                f" {self.spatial_factor}"
            )
        if frames and not self.takes_clips:
            raise ValueError(
                f"the autoencoder takes images (c, h, w), got clips of shape {image_shape!r}; use an autoencoder of"
                " clips, or a dataset of images, such as a folder of frames"
            )
        if self.takes_clips and not frames:
            raise ValueError(f"the autoencoder takes clips (c, t, h, w), got an image of shape {image_shape!r}")
        for name, side, sides in (("height", height, self.height), ("width", width, self.width)):
            if sides is not None and sides.latent_size(side) is None:
                raise ValueError(
                    f"the autoencoder takes no {name} of {side} pixels; expected"
                    f" {sides.first}{f' + n * {sides.step}' if sides.step else ''}: {sides.nearest(side)}"
                )
        latent_frames = [self._latent_frames(count) for count in frames]
        return (self.latent_channels, *latent_frames, height // self.spatial_factor, width // self.spatial_factor)

    def _latent_frames(self, count: int) -> int:
        factor = self.temporal_factor
        steps = self.frames or Steps(first=1, step=factor, latent_first=1, latent_step=1)
        latent = steps.latent_size(count)
        if latent is None:
            raise ValueError(
                f"a clip of {count} frames does not fit the autoencoder, which takes {steps.first} + n *"
                f" {steps.step}: {steps.nearest(count)}"
            )
        return latent


def _no_stages(name: str) -> Path:
    raise SpecError(f"stage {name!r} cannot be used here: there is no run around this spec")


@attrs.frozen(kw_only=True)
class BuildContext:
    """What an object that is being built may use. The default suits objects that stand alone.

    Attributes:
        stage_directory: the folder of a finished earlier stage.
        stage_autoencoder: the spec of the autoencoder that an earlier stage trains, followed back to the one that
            holds its architecture; None when there is none.
        stage_denoiser: the spec of the denoiser that an earlier stage trains, likewise.
        autoencoder: facts of the autoencoder that is trained or evaluated.
        latent_shape: shape ``(c, *t, h, w)`` of the latents that a denoiser works on.
        image_shape: shape ``(c, *t, h, w)`` of the images.
        num_classes: number of class labels in the data; None when it has none.
        seed: seed of the stage.
        cache_directory: a folder for what is costly to compute and the same for all variants of a run, such as features
            of real images; may be removed at any time between runs. None: there is no run.
        untrained: build networks of the right shape with arbitrary weights, reading no weight file. Only for specs
            whose ``builds_untrained`` says that they can.
    """

    stage_directory: Callable[[str], Path] = _no_stages
    stage_autoencoder: Callable[[str], Any] = lambda name: None
    stage_denoiser: Callable[[str], Any] = lambda name: None
    autoencoder: AutoencoderInfo | None = None
    latent_shape: tuple[int, ...] | None = None
    image_shape: tuple[int, ...] | None = None
    num_classes: int | None = None
    seed: int = 0
    cache_directory: Path | None = None
    untrained: bool = False
