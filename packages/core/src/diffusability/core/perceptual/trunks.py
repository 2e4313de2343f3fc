"""The convolutional trunks of perceptual distances: AlexNet and VGG16 up to their last convolution, cut into five.

Plain ones are torchvision's ``features``. Shift-tolerant ones (Ghildyal & Liu, ECCV 2022, arXiv 2207.13686) pool with
stride 1 and then blur with stride 2, and the first convolution of AlexNet has stride 1, with a blur behind it.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PerceptualNetwork = Literal["alex", "vgg"]

#: Channels of the five feature maps.
CHANNELS: dict[str, tuple[int, ...]] = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


class BlurPool(nn.Module):
    """Binomial 3x3 blur of every channel with stride 2, over a border of two reflected pixels (Zhang, ICML 2019)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(row, row)[None, None], persistent=False)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c half_h half_w"]:
        """The blurred maps at half size."""
        channels = maps.shape[1]
        padded = F.pad(maps, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(padded, self.kernel.expand(channels, 1, 3, 3), stride=2, groups=channels)


def _pool(kernel: int, shift_tolerant: bool) -> list[nn.Module]:
    return [nn.MaxPool2d(kernel, 1), BlurPool()] if shift_tolerant else [nn.MaxPool2d(kernel, 2)]


def _convolution(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]


def _alex(shift_tolerant: bool) -> list[list[nn.Module]]:
    stem = nn.Conv2d(3, 64, 11, stride=1 if shift_tolerant else 4, padding=2)
    return [
        [stem, *([BlurPool()] if shift_tolerant else []), nn.ReLU(inplace=True)],
        [*_pool(3, shift_tolerant), *_convolution(64, 192, 5)],
        [*_pool(3, shift_tolerant), *_convolution(192, 384, 3)],
        _convolution(384, 256, 3),
        _convolution(256, 256, 3),
    ]


def _vgg(shift_tolerant: bool) -> list[list[nn.Module]]:
    parts: list[list[nn.Module]] = []
    inputs = 3
    for outputs, depth in zip(CHANNELS["vgg"], (2, 2, 3, 3, 3), strict=True):
        layers = _pool(2, shift_tolerant) if parts else []
        for _ in range(depth):
            layers += _convolution(inputs, outputs, 3)
            inputs = outputs
        parts.append(layers)
    return parts


def trunk(network: PerceptualNetwork, shift_tolerant: bool = False) -> nn.ModuleList:
    """Five parts, to be run one after the other; each ends with the feature map that distances are taken of."""
    parts = _alex(shift_tolerant) if network == "alex" else _vgg(shift_tolerant)
    return nn.ModuleList(nn.Sequential(*layers) for layers in parts)
