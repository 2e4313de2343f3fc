"""What a YAML file says of the evaluators of this package. Free of torch: ``build`` imports it."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from diffusability.core.build import BuildContext
from diffusability.core.specs.base import fail
from diffusability.core.specs.components import EvaluatorSpec

if TYPE_CHECKING:
    from diffusability.eval.evaluators.chop_off import ChopOff
    from diffusability.eval.evaluators.dct_spectrum import DCTSpectrum
    from diffusability.eval.evaluators.kl_per_dim import KLPerDim
    from diffusability.eval.evaluators.psnr import PSNR
    from diffusability.eval.evaluators.sliced_wasserstein import SlicedWasserstein
    from diffusability.eval.evaluators.ssim import SSIM

ShareKept = Annotated[float, Field(gt=0, le=1)]


class PSNRSpec(EvaluatorSpec):
    """Peak signal-to-noise ratio of reconstructions."""

    kind: Literal["psnr"] = "psnr"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})

    def build(self, context: BuildContext) -> "PSNR":
        from diffusability.eval.evaluators.psnr import PSNR

        return PSNR()


class SSIMSpec(EvaluatorSpec):
    """Structural similarity of reconstructions, of intensities from 0 to 1."""

    kind: Literal["ssim"] = "ssim"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})

    border: Literal["reflect", "valid"] = Field(
        "reflect",
        description="reflect: windows around every pixel, as torchmetrics; valid: where they fit, as scikit-image",
    )

    def build(self, context: BuildContext) -> "SSIM":
        from diffusability.eval.evaluators.ssim import SSIM

        return SSIM(self)


class KLPerDimSpec(EvaluatorSpec):
    """KL divergence of the posterior to the standard normal, for each latent dimension."""

    kind: Literal["kl-per-dim"] = "kl-per-dim"
    needs: ClassVar[frozenset[str]] = frozenset({"posterior"})

    deterministic: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do with an encoder that has no variance; skip: report nothing"
    )

    def build(self, context: BuildContext) -> "KLPerDim":
        from diffusability.eval.evaluators.kl_per_dim import KLPerDim

        return KLPerDim(self)


class DCTSpectrumSpec(EvaluatorSpec):
    """Spectra of latents and of images in block DCTs, and how much of them is at high frequencies."""

    kind: Literal["dct-spectrum"] = "dct-spectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})

    block_size: int = Field(8, ge=4, le=64, description="side of a block; smaller latents take a smaller power of two")

    def build(self, context: BuildContext) -> "DCTSpectrum":
        from diffusability.eval.evaluators.dct_spectrum import DCTSpectrum

        return DCTSpectrum(self)


class ChopOffSpec(EvaluatorSpec):
    """Reconstruction quality when the high DCT frequencies of the latents are removed before decoding."""

    kind: Literal["chop-off"] = "chop-off"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents", "autoencoder"})

    num_samples: PositiveInt = Field(128, description="images that it sees; each is decoded once for each share")
    shares: tuple[ShareKept, ...] = Field(
        (1.0, 0.75, 0.5, 0.25, 0.125, 0.0625, 0.015625),
        description="shares of the coefficients (shape square: of the block's side) that are kept",
    )
    block_size: int = Field(8, ge=4, le=64, description="side of a block; smaller latents take a smaller power of two")
    shape: Literal["zigzag", "square"] = "zigzag"
    max_psnr: float = Field(60.0, gt=0, description="cap on an image's PSNR, dB; what is not chopped would be infinite")
    num_pictures: int = Field(4, ge=0, description="images that are shown in the figure of pictures")

    @model_validator(mode="after")
    def _shares_from_one_down(self) -> "ChopOffSpec":
        if 1.0 not in self.shares or len(set(self.shares)) < max(2, len(self.shares)):
            text = f"shares must contain 1 and at least one other, each once, got {list(self.shares)!r}"
            raise fail("shares", text, self.shares, type(self).__name__)
        return self

    def build(self, context: BuildContext) -> "ChopOff":
        from diffusability.eval.evaluators.chop_off import ChopOff

        return ChopOff(self)


class SlicedWassersteinSpec(EvaluatorSpec):
    """Distance between the patches of real and of generated images at several scales; needs no pretrained network."""

    kind: Literal["sliced-wasserstein"] = "sliced-wasserstein"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "generated"})

    patches_per_image: PositiveInt = Field(128, description="patches of each image and scale, if max_patches allows")
    max_patches: PositiveInt = Field(32768, description="bound on the patches kept of each set and scale")
    num_projections: PositiveInt = Field(512, description="random directions")
    seed: int = Field(0, description="of patch positions and of directions")

    @model_validator(mode="after")
    def _a_patch_of_each_image(self) -> "SlicedWassersteinSpec":
        if self.num_samples > self.max_patches:
            text = f"max_patches must be at least num_samples ({self.num_samples!r}), got {self.max_patches!r}"
            raise fail("max_patches", text, self.max_patches, type(self).__name__)
        return self

    def resolved_patches_per_image(self) -> int:
        """Patches that are taken of each image and scale."""
        return min(self.patches_per_image, self.max_patches // self.num_samples)

    def build(self, context: BuildContext) -> "SlicedWasserstein":
        from diffusability.eval.evaluators.sliced_wasserstein import SlicedWasserstein

        return SlicedWasserstein(self)
