"""Shape aliases, in one place. ``*t`` is empty for images and one axis for video.

Images are float32 in [-1, 1]; latents are raw unless a name says ``normalized``.
"""

from jaxtyping import Float, Int
from torch import Tensor

Images = Float[Tensor, "b c *t h w"]
Latents = Float[Tensor, "b c *t h w"]
#: What a denoiser makes of latents: as many channels, or twice as many.
Predictions = Float[Tensor, "b outputs *t h w"]
Labels = Int[Tensor, " b"]
Times = Float[Tensor, " b"]
Scalar = Float[Tensor, ""]

__all__ = ["Images", "Labels", "Latents", "Predictions", "Scalar", "Times"]
