"""What a YAML file says of structural and perceptual qualities of reconstructions. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.perceptual.sources import lpips_files, smallest_side, st_lpips_file
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import EvaluatorSpec

if TYPE_CHECKING:
    from diffusability.eval.reconstruction.ms_ssim import MSSSIM
    from diffusability.eval.reconstruction.perceptual import Perceptual
from typing import TYPE_CHECKING

from pydantic import PositiveInt

if TYPE_CHECKING:
    from diffusability.eval.reconstruction.kl_per_dim import KLPerDim
    from diffusability.eval.reconstruction.psnr import PSNR
    from diffusability.eval.reconstruction.ssim import SSIM
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusability.eval.reconstruction.worst_reconstructions import WorstReconstructions


#: At the coarsest of five scales the window of 11 pixels must still fit.
MS_SSIM_SMALLEST_SIDE = 11 * 2**4

PerceptualNetworkName = Literal["alex", "vgg"]


def _check_size(kind: str, network: str, image_shape: tuple[int, ...]) -> None:
    smallest = smallest_side(kind, network)
    if min(image_shape[-2:]) < smallest:
        raise ValueError(
            f"{kind} ({network}) takes images of at least {smallest} pixels a side, got"
            f" {image_shape[-2]}x{image_shape[-1]}"
        )


class MSSSIMSpec(EvaluatorSpec):
    """Structural similarity of reconstructions at five scales; images of 176 pixels or more."""

    kind: Literal["ms-ssim"] = "ms-ssim"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        if min(image_shape[-2:]) < MS_SSIM_SMALLEST_SIDE:
            raise ValueError(
                f"ms-ssim needs images of {MS_SSIM_SMALLEST_SIDE} pixels a side or more, got"
                f" {image_shape[-2]}x{image_shape[-1]}; use ssim for smaller ones"
            )

    def build(self, context: BuildContext) -> "MSSSIM":
        from diffusability.eval.reconstruction.ms_ssim import MSSSIM

        return MSSSIM()


class LPIPSSpec(EvaluatorSpec):
    """Learned perceptual distance of reconstructions, LPIPS 0.1 on AlexNet or VGG16."""

    kind: Literal["lpips"] = "lpips"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})

    network: PerceptualNetworkName = "alex"
    weights: Path | None = Field(None, description="torchvision's weights of the network; default: torch.hub's cache")

    def distinct_name(self) -> str:
        return f"{self.kind} with network {self.network}"

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        _check_size(self.kind, self.network, image_shape)

    def check_inputs(self) -> None:
        lpips_files(self.network, self.weights)

    def build(self, context: BuildContext) -> "Perceptual":
        from diffusability.core.perceptual.networks import lpips_network
        from diffusability.core.perceptual.published_weights import file_digest
        from diffusability.eval.reconstruction.perceptual import Perceptual

        metric = "lpips" if self.network == "alex" else f"lpips_{self.network}"
        digest = file_digest(lpips_files(self.network, self.weights)[0])
        settings = {"network": self.network, "version": "0.1", "weights": digest}
        return Perceptual(metric, lpips_network(self.network, self.weights), settings)


class STLPIPSSpec(EvaluatorSpec):
    """Shift-tolerant learned perceptual distance of reconstructions; its weights come with a package."""

    kind: Literal["st-lpips"] = "st-lpips"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})

    network: PerceptualNetworkName = "alex"

    def distinct_name(self) -> str:
        return f"{self.kind} with network {self.network}"

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        _check_size(self.kind, self.network, image_shape)

    def check_inputs(self) -> None:
        st_lpips_file(self.network)

    def build(self, context: BuildContext) -> "Perceptual":
        from diffusability.core.perceptual.networks import st_lpips_network
        from diffusability.core.perceptual.published_weights import file_digest
        from diffusability.eval.reconstruction.perceptual import Perceptual

        metric = "st_lpips" if self.network == "alex" else f"st_lpips_{self.network}"
        settings = {"network": self.network, "weights": file_digest(st_lpips_file(self.network))}
        return Perceptual(metric, st_lpips_network(self.network), settings)


class PSNRSpec(EvaluatorSpec):
    """Peak signal-to-noise ratio of reconstructions."""

    kind: Literal["psnr"] = "psnr"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})

    def build(self, context: BuildContext) -> "PSNR":
        from diffusability.eval.reconstruction.psnr import PSNR

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
        from diffusability.eval.reconstruction.ssim import SSIM

        return SSIM(self)


class KLPerDimSpec(EvaluatorSpec):
    """KL divergence of the posterior to the standard normal, for each latent dimension."""

    kind: Literal["kl-per-dim"] = "kl-per-dim"
    needs: ClassVar[frozenset[str]] = frozenset({"posterior"})

    deterministic: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do with an encoder that has no variance; skip: report nothing"
    )

    def build(self, context: BuildContext) -> "KLPerDim":
        from diffusability.eval.reconstruction.kl_per_dim import KLPerDim

        return KLPerDim(self)


class WorstReconstructionsSpec(EvaluatorSpec):
    """The images that are reconstructed worst, as pictures."""

    kind: Literal["worst-reconstructions"] = "worst-reconstructions"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})

    num_pictures: PositiveInt = Field(6, le=64)

    def build(self, context: BuildContext) -> "WorstReconstructions":
        from diffusability.eval.reconstruction.worst_reconstructions import WorstReconstructions

        return WorstReconstructions(self)
