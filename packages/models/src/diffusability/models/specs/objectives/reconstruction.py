"""The spec of the objective that trains an autoencoder. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from diffusability.core.perceptual.sources import lpips_files, smallest_side, st_lpips_file
from diffusability.core.specs.base import Spec
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AnyAutoencoder, ObjectiveSpec

if TYPE_CHECKING:
    pass


class CharbonnierSpec(Spec):
    """``sqrt((x - y)^2 + epsilon^2)``."""

    weight: PositiveFloat = 1.0
    epsilon: PositiveFloat = Field(
        1e-3, description="where it turns from a parabola into |x - y|; images are in [-1, 1]"
    )


class PseudoHuberSpec(Spec):
    """``delta^2 (sqrt(1 + ((x - y) / delta)^2) - 1)``."""

    weight: PositiveFloat = 1.0
    delta: PositiveFloat = Field(0.1, description="where it turns from half the square into delta |x - y|")


class DCTDistanceSpec(Spec):
    """Mean absolute difference of block DCT coefficients, weighted by ``(1 + u + v)^exponent``."""

    weight: PositiveFloat = 1.0
    block_size: PositiveInt = Field(8, description="pixels; must divide the images' sides")
    exponent: float = Field(0.0, description="positive: high frequencies count more; negative: low ones")


class PerceptualSpec(Spec):
    """A distance in the features of a fixed network, in float32."""

    kind: Literal["lpips", "st-lpips"] = Field(
        description="lpips: Zhang et al. 2018; st-lpips: shift-tolerant, its weights come with the extra 'st-lpips'"
    )
    network: Literal["alex", "vgg"] = "vgg"
    weight: PositiveFloat = 1.0
    weights: Path | None = Field(
        None, description="for lpips: torchvision's weight file; default: torch.hub's cache ($TORCH_HOME)"
    )

    @model_validator(mode="after")
    def _ships_its_weights(self) -> "PerceptualSpec":
        if self.kind == "st-lpips" and self.weights is not None:
            raise ValueError("st-lpips uses the weights that its package ships; leave 'weights' out")
        return self

    def check_inputs(self) -> None:
        """Raises ValueError when a file or package is missing, with where to get it."""
        if self.kind == "lpips":
            lpips_files(self.network, self.weights)
        else:
            st_lpips_file(self.network)


class ReconstructionSpec(ObjectiveSpec):
    """Trains an autoencoder to reconstruct images from a sample of the posterior."""

    kind: Literal["reconstruction"] = "reconstruction"
    builds: ClassVar[str] = "diffusability.models.objectives.reconstruction:Reconstruction"
    provides: ClassVar[frozenset[str]] = frozenset({"images", "posterior", "latents", "reconstruction"})
    trains_on: ClassVar[Literal["images", "latents"]] = "images"

    autoencoder: AnyAutoencoder
    l1: float = Field(1.0, ge=0, description="weight of the mean absolute error")
    mse: float = Field(0.0, ge=0, description="weight of the mean squared error")
    charbonnier: CharbonnierSpec | None = None
    pseudo_huber: PseudoHuberSpec | None = None
    dct: DCTDistanceSpec | None = None
    perceptual: PerceptualSpec | None = None
    latent_noise: float = Field(
        0.0,
        ge=0,
        description="tau: noise on latents that are decoded in training, of standard deviation |N(0, tau^2)| for each"
        " sample; representation autoencoders use 0.8",
    )
    train: Literal["all", "encoder", "decoder"] = Field("all", description="the other part is frozen")
    freeze: tuple[str, ...] = Field(
        (), description="dotted names of modules or parameters to freeze; '*' stands for anything, as in 'encoder.*'"
    )
    freeze_decoder_tail: bool | None = Field(
        None,
        description="keep the decoder's last norm and convolution as they are; default: true for autoencoders whose"
        " weights come from outside of this run",
    )

    @model_validator(mode="after")
    def _some_distance(self) -> "ReconstructionSpec":
        others = (self.charbonnier, self.pseudo_huber, self.dct, self.perceptual)
        if self.l1 == 0 and self.mse == 0 and all(other is None for other in others):
            raise ValueError("l1 and mse are both 0, so nothing would be learned; give one of them a positive weight")
        return self

    def check_inputs(self) -> None:
        if self.perceptual is not None:
            self.perceptual.check_inputs()

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        channels, *_, height, width = image_shape
        if self.dct is not None and (height % self.dct.block_size or width % self.dct.block_size):
            raise ValueError(
                f"dct.block_size {self.dct.block_size!r} does not divide images of {height}x{width} pixels"
            )
        if self.perceptual is None:
            return
        kind, network = self.perceptual.kind, self.perceptual.network
        smallest = smallest_side(kind, network)
        if min(height, width) < smallest:
            raise ValueError(
                f"perceptual loss {kind!r} with network {network!r} takes images of at least {smallest} pixels a side;"
                f" the data has {height}x{width}"
            )
        if channels not in (1, 3):
            raise ValueError(f"perceptual loss {kind!r} takes images of 1 or 3 channels; the data has {channels}")

    def num_parameters(self, context: BuildContext) -> int | None:
        return self.autoencoder.num_parameters(context)
