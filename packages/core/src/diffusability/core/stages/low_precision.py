"""An autoencoder that computes in low precision and answers in float32."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.shapes import Images, Latents


class LowPrecision(Autoencoder):
    """Encodes and decodes under autocast, convolutions channels last: faster where nobody needs the last digits."""

    def __init__(self, autoencoder: Autoencoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.info = autoencoder.info
        self.spec = autoencoder.spec
        self.dtype = dtype
        self.inner = autoencoder
        for module in autoencoder.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.to(memory_format=torch.channels_last)

    def encode(self, images: Images) -> Posterior:
        """The posterior in float32, computed in low precision."""
        with torch.autocast(images.device.type, dtype=self.dtype):
            posterior = self.inner.encode(images)
        logvar = posterior.logvar
        return Posterior(mean=posterior.mean.float(), logvar=None if logvar is None else logvar.float())

    def decode(self, latents: Latents) -> Float[Tensor, "b image_channels *image_t image_h image_w"]:
        """Images in float32, computed in low precision."""
        with torch.autocast(latents.device.type, dtype=self.dtype):
            return self.inner.decode(latents).float()
