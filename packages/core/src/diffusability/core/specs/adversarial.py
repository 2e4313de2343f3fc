"""The adversarial loss of a training stage."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from diffusability.core.specs.base import Spec
from diffusability.core.specs.training import OptimizerSpec


class PatchDiscriminatorSpec(Spec):
    """PatchGAN (Isola et al. 2017): strided 4x4 convolutions, one logit a patch."""

    layers: PositiveInt = Field(3, le=6, description="convolutions of stride 2; patches of 70 pixels at 3")
    width: PositiveInt = Field(64, description="channels after the first convolution, doubled up to 8 times after each")
    norm: Literal["actnorm", "none"] = Field(
        "actnorm",
        description="actnorm: a scale and shift per channel, set by the first batch; none of these looks at"
        " other samples of a batch",
    )
    video: Literal["frames", "volume"] = Field(
        "frames", description="clips are judged frame by frame, or by convolutions over time too"
    )

    def fewest_pixels(self) -> int:
        """The smallest height and width that give a logit."""
        return 3 << self.layers  # halved by each strided layer, and less one by each of the last two


class DiscriminatorOptimizerSpec(OptimizerSpec):
    """AdamW with a short memory and without weight decay, as is usual for discriminators (Radford et al. 2016)."""

    betas: tuple[float, float] = (0.5, 0.9)
    weight_decay: float = Field(0.0, ge=0)


class AdversarialSpec(Spec):
    """A discriminator that is trained beside an autoencoder, and the loss it gives to the reconstruction."""

    loss: Literal["hinge", "non-saturating"] = "hinge"
    weight: PositiveFloat = Field(0.5, description="of the generator's loss; times the adaptive weight, if it adapts")
    adaptive: bool = Field(
        True,
        description="scale the weight so that both losses have equal gradients at the decoder's last layer"
        " (Esser et al. 2021)",
    )
    largest_adaptive_weight: PositiveFloat = 1e4
    start_step: int = Field(0, ge=0, description="optimizer step from which both are trained")
    r1_weight: float = Field(0.0, ge=0, description="gamma of the R1 penalty (Mescheder et al. 2018)")
    r1_every: PositiveInt = Field(16, description="optimizer steps between penalties, which count that much more")
    discriminator: PatchDiscriminatorSpec = PatchDiscriminatorSpec()
    optimizer: DiscriminatorOptimizerSpec = DiscriminatorOptimizerSpec()
    gradient_clip: PositiveFloat | None = Field(1.0, description="largest gradient norm of the discriminator")
