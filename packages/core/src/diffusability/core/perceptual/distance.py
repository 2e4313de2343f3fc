"""The distance of images in the feature maps of a fixed network."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.errors import TrainingError
from diffusability.core.numerics.axes import as_frames
from diffusability.core.shapes import Images

# Zhang et al. (2018) scale images in [-1, 1] by ImageNet's statistics.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


def unit_channels(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Feature vectors divided by their length; where all channels are 0, so is the result, and the gradient is finite.

    (With ``x / (sqrt(sum x^2) + eps)`` that gradient is 0 times infinity.)
    """
    return maps / (maps.square().sum(1, keepdim=True) + 1e-20).sqrt()


class PerceptualDistance(nn.Module):
    """LPIPS: ``sum_l mean_hw sum_c w_lc (f_lc(x) - f_lc(y))^2`` over unit feature vectors of five layers.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, equation 1.
    Always in float32, also inside autocast. The network is fixed.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: nn.ModuleList, heads: nn.ParameterList, name: str, smallest_side: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = heads
        self.name = name
        self.smallest_side = smallest_side
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Images, reconstruction: Images) -> Float[Tensor, " b"]:
        """The distance of each pair of images in [-1, 1]; of clips, the mean over their frames.

        Grey images are repeated over three channels. Gradients flow to both.

        Raises:
            TrainingError: the images are smaller than the network allows, or have neither 1 nor 3 channels.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.smallest_side:
            raise TrainingError(
                f"{self.name} takes images of at least {self.smallest_side} pixels a side, got {height}x{width}"
            )
        if images.shape[1] not in (1, 3):
            raise TrainingError(f"{self.name} takes images of 1 or 3 channels, got {images.shape[1]}")
        with torch.autocast(images.device.type, enabled=False):
            distances = self._distances(_frames(images), _frames(reconstruction))
        return distances.view(images.shape[0], -1).mean(1)

    def _distances(self, first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        first, second = (first - self.shift) / self.scale, (second - self.shift) / self.scale
        total = first.new_zeros(len(first))
        for part, weights in zip(self.trunk, self.heads, strict=True):
            first, second = part(first), part(second)
            squares = (unit_channels(first) - unit_channels(second)).square()
            total = total + torch.einsum("nchw,c->n", squares, weights) / (squares.shape[-2] * squares.shape[-1])
        return total


def _frames(images: Images) -> Float[Tensor, "n three h w"]:
    return as_frames(images).float().expand(-1, 3, -1, -1)
