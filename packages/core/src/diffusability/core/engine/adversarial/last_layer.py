"""Gradients of the decoder's last convolution, of losses whose gradient at the reconstruction is known."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight, conv3d_weight

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.errors import SpecError
from diffusability.core.numerics.axes import as_frames
from diffusability.core.shapes import Images


class LastLayer:
    """The last convolution of an autoencoder's decoder, which remembers its input of a forward pass.

    Raises:
        SpecError: the autoencoder names no such layer, or it is not a plain convolution.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        convolutions = [
            inner
            for module in autoencoder.decoder_tail()
            for inner in module.modules()
            if isinstance(inner, nn.Conv2d | nn.Conv3d)
        ]
        self.name = type(autoencoder).__name__
        if not convolutions:
            raise SpecError(
                f"adversarial.adaptive needs the decoder's last convolution, and {self.name} names none in its"
                " decoder_tail(); set adaptive to false"
            )
        self.convolution = convolutions[-1]
        if self.convolution.padding_mode != "zeros" or isinstance(self.convolution.padding, str):
            raise SpecError(f"adversarial.adaptive cannot use {self.convolution!r} of {self.name}; set it to false")
        # ZeRO-3 empties the weight outside of forward passes.
        self.weight_shape = tuple(self.convolution.weight.shape)
        self._input: Tensor | None = None
        self._output_shape: tuple[int, ...] = ()
        self._watching = False
        self.convolution.register_forward_hook(self._remember)

    def watch(self) -> None:
        """Its next use is the one that makes the reconstruction."""
        self._watching = True

    def _remember(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if self._watching:
            self._input, self._output_shape = inputs[0].detach(), tuple(output.shape)
            self._watching = False

    def weight_gradients(self, *gradients: Images) -> list[Float[Tensor, "..."]]:
        """The gradient of the convolution's weight for each gradient at the reconstruction, in float32.

        Raises:
            SpecError: the reconstruction is not made of the convolution's output by rearranging it.
        """
        assert self._input is not None, "the last layer was not used in the forward pass"
        layer = self.convolution
        compute: Any = conv2d_weight if isinstance(layer, nn.Conv2d) else conv3d_weight
        with torch.autocast(self._input.device.type, enabled=False):
            return [
                compute(
                    self._input.float(),
                    self.weight_shape,
                    self._at_output(gradient.float()),
                    layer.stride,
                    layer.padding,
                    layer.dilation,
                    layer.groups,
                )
                for gradient in gradients
            ]

    def _at_output(self, gradient: Images) -> Float[Tensor, "..."]:
        """A gradient at the reconstruction, taken back to the output: through frames and shuffled pixels."""
        shape = self._output_shape
        if gradient.ndim == 5 and len(shape) == 4:
            gradient = as_frames(gradient)
        factor = gradient.shape[-1] // shape[-1]
        if gradient.ndim == 4 and factor > 1 and gradient.shape[-1] == factor * shape[-1]:
            gradient = F.pixel_unshuffle(gradient, factor)
        if tuple(gradient.shape) != shape:
            raise SpecError(
                f"adversarial.adaptive: the last convolution of {self.name} gives shape {shape}, which is not the"
                " reconstruction's; set adaptive to false"
            )
        return gradient
