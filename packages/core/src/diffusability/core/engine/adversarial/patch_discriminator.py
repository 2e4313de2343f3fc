"""PatchGAN (Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks", section 3.2.2)."""

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.errors import SpecError
from diffusability.core.numerics.axes import as_frames, per_channel
from diffusability.core.shapes import Images
from diffusability.core.specs.adversarial import PatchDiscriminatorSpec

#: Channels grow to this many times the first layer's.
_MOST_DOUBLINGS = 3
_SLOPE = 0.2

Features: TypeAlias = Float[Tensor, "n c *space"]


class ActNorm(nn.Module):
    """``(x + shift) * scale`` per channel (Kingma & Dhariwal 2018); ``adapt`` sets both from features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, features: Features) -> Features:
        """Features of the same shape."""
        return (features + per_channel(self.shift, features)) * per_channel(self.scale, features)

    @torch.no_grad()
    def adapt(self, features: Features) -> None:
        """Sets shift and scale so that each channel of these features has mean 0 and standard deviation 1."""
        channels = features.transpose(0, 1).flatten(1).float()
        self.shift.copy_(-channels.mean(1))
        self.scale.copy_(1 / (channels.std(1, correction=0) + 1e-6))


class PatchDiscriminator(nn.Module):
    """One logit for each patch of an image or clip; no layer mixes samples of a batch."""

    def __init__(self, spec: PatchDiscriminatorSpec, image_shape: tuple[int, ...]) -> None:
        """
        Args:
            spec: layers and widths.
            image_shape: shape ``(c, *t, h, w)`` of what it is to judge.

        Raises:
            SpecError: the images are too small for a single patch.
        """
        super().__init__()
        smallest = min(image_shape[-2:])
        if smallest < spec.fewest_pixels():
            raise SpecError(
                f"a discriminator of {spec.layers} layers needs images of {spec.fewest_pixels()} pixels at least, and"
                f" these have {smallest}; give adversarial.discriminator fewer layers"
            )
        self.by_frame = len(image_shape) == 4 and spec.video == "frames"
        volume = len(image_shape) == 4 and not self.by_frame
        widths = [spec.width * 2 ** min(level, _MOST_DOUBLINGS) for level in range(spec.layers + 1)]
        layers: list[nn.Module] = [_convolution(image_shape[0], widths[0], 2, volume), nn.LeakyReLU(_SLOPE)]
        for level in range(1, spec.layers + 1):
            stride = 2 if level < spec.layers else 1
            layers.append(_convolution(widths[level - 1], widths[level], stride, volume))
            if spec.norm == "actnorm":
                layers.append(ActNorm(widths[level]))
            layers.append(nn.LeakyReLU(_SLOPE))
        layers.append(_convolution(widths[-1], 1, 1, volume))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Images) -> Float[Tensor, "n 1 *patches"]:
        """Logits of patches of images in [-1, 1]; of each frame's, where clips are judged by frame."""
        logits: Tensor = self.layers(self._frames(images))
        return logits

    @torch.no_grad()
    def adapt(self, images: Images) -> None:
        """Sets each ActNorm by what it sees of these images, layer after layer."""
        features = self._frames(images)
        for layer in self.layers:
            if isinstance(layer, ActNorm):
                layer.adapt(features)
            features = layer(features)

    def _frames(self, images: Images) -> Features:
        return as_frames(images) if self.by_frame else images


def _convolution(channels: int, width: int, stride: int, volume: bool) -> nn.Module:
    made: nn.Conv2d | nn.Conv3d
    if volume:
        made = nn.Conv3d(channels, width, (3, 4, 4), stride=(1, stride, stride), padding=1)
    else:
        made = nn.Conv2d(channels, width, 4, stride=stride, padding=1)
    nn.init.normal_(made.weight, 0.0, 0.02)
    assert made.bias is not None
    nn.init.zeros_(made.bias)
    return made
