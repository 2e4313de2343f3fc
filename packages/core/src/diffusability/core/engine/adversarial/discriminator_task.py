"""The module of the second engine."""

import attrs
import torch
from torch import Tensor, nn

from diffusability.core.engine.adversarial.losses import discriminator_loss, r1_penalty
from diffusability.core.engine.adversarial.patch_discriminator import PatchDiscriminator
from diffusability.core.shapes import Images, Scalar
from diffusability.core.specs.adversarial import AdversarialSpec


@attrs.frozen(kw_only=True, eq=False, slots=False)  # ZeRO-3's hooks read vars() of what a module returns
class DiscriminatorOutput:
    """What one forward pass of the discriminator returns.

    Attributes:
        loss: what is minimised.
        discriminator: the loss on logits; detached.
        r1: the penalty before its weight, where it was computed; detached.
        logits_real: mean logit of the images; detached.
        logits_fake: mean logit of the reconstructions; detached.
    """

    loss: Scalar
    discriminator: Tensor
    r1: Tensor | None
    logits_real: Tensor
    logits_fake: Tensor


class DiscriminatorTask(nn.Module):
    """Computes what the discriminator minimises, under autocast when asked; the penalty in float32."""

    def __init__(
        self, spec: AdversarialSpec, image_shape: tuple[int, ...], autocast_dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.spec = spec
        self.autocast_dtype = autocast_dtype
        self.discriminator = PatchDiscriminator(spec.discriminator, image_shape)

    def logits(self, images: Images) -> Tensor:
        """Logits under the precision of training."""
        device = images.device.type
        with torch.autocast(device, dtype=self.autocast_dtype or torch.bfloat16, enabled=bool(self.autocast_dtype)):
            logits: Tensor = self.discriminator(images)
        return logits

    def forward(self, images: Images, reconstruction: Images, with_penalty: bool) -> DiscriminatorOutput:
        """The loss of images and their reconstruction, both without gradient; lazily with the R1 penalty."""
        real, fake = self.logits(images), self.logits(reconstruction)
        logits_loss = discriminator_loss(self.spec.loss, real, fake)
        loss, penalty = logits_loss, None
        if with_penalty:
            inputs = images.detach().requires_grad_()
            penalty = r1_penalty(self.discriminator(inputs), inputs)
            loss = loss + self.spec.r1_weight * self.spec.r1_every * penalty
        return DiscriminatorOutput(
            loss=loss,
            discriminator=logits_loss.detach(),
            r1=penalty.detach() if penalty is not None else None,
            logits_real=real.detach().float().mean(),
            logits_fake=fake.detach().float().mean(),
        )
