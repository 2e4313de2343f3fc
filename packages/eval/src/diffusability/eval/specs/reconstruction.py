"""What a YAML file says of structural and perceptual qualities of reconstructions. Free of torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.perceptual.sources import lpips_files, smallest_side, st_lpips_file
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.specs.metric_info import MetricInfo
from diffusability.core.specs.scorecard import ScorecardUse
from diffusability.eval.specs import reconstruction_metrics

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

from pydantic import PositiveInt

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


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
    builds: ClassVar[str] = "diffusability.eval.reconstruction.ms_ssim:MSSSIM"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = reconstruction_metrics.MS_SSIM

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        if min(image_shape[-2:]) < MS_SSIM_SMALLEST_SIDE:
            raise ValueError(
                f"ms-ssim needs images of {MS_SSIM_SMALLEST_SIDE} pixels a side or more, got"
                f" {image_shape[-2]}x{image_shape[-1]}; use ssim for smaller ones"
            )


class LPIPSSpec(EvaluatorSpec):
    """Learned perceptual distance of reconstructions, LPIPS 0.1 on AlexNet or VGG16."""

    kind: Literal["lpips"] = "lpips"
    builds: ClassVar[str] = "diffusability.eval.reconstruction.perceptual:LPIPS"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = reconstruction_metrics.LPIPS

    network: PerceptualNetworkName = "alex"
    weights: Path | None = Field(None, description="torchvision's weights of the network; default: torch.hub's cache")

    def distinct_name(self) -> str:
        return f"{self.kind} with network {self.network}"

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        _check_size(self.kind, self.network, image_shape)

    def check_inputs(self) -> None:
        lpips_files(self.network, self.weights)


class STLPIPSSpec(EvaluatorSpec):
    """Shift-tolerant learned perceptual distance of reconstructions; its weights come with a package."""

    kind: Literal["st-lpips"] = "st-lpips"
    builds: ClassVar[str] = "diffusability.eval.reconstruction.perceptual:STLPIPS"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = reconstruction_metrics.ST_LPIPS
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse(most_samples=64)

    network: PerceptualNetworkName = "alex"

    def distinct_name(self) -> str:
        return f"{self.kind} with network {self.network}"

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        _check_size(self.kind, self.network, image_shape)

    def check_inputs(self) -> None:
        st_lpips_file(self.network)


class PSNRSpec(EvaluatorSpec):
    """Peak signal-to-noise ratio of reconstructions."""

    kind: Literal["psnr"] = "psnr"
    builds: ClassVar[str] = "diffusability.eval.reconstruction.psnr:PSNR"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = reconstruction_metrics.PSNR
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse()


class SSIMSpec(EvaluatorSpec):
    """Structural similarity of reconstructions, of intensities from 0 to 1."""

    kind: Literal["ssim"] = "ssim"
    builds: ClassVar[str] = "diffusability.eval.reconstruction.ssim:SSIM"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = reconstruction_metrics.SSIM
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse()

    border: Literal["reflect", "valid"] = Field(
        "reflect",
        description="reflect: windows around every pixel, as torchmetrics; valid: where they fit, as scikit-image",
    )


class KLPerDimSpec(EvaluatorSpec):
    """KL divergence of the posterior to the standard normal, for each latent dimension."""

    kind: Literal["kl-per-dim"] = "kl-per-dim"
    builds: ClassVar[str] = "diffusability.eval.reconstruction.kl_per_dim:KLPerDim"
    needs: ClassVar[frozenset[str]] = frozenset({"posterior"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = reconstruction_metrics.KL_PER_DIM
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse(fields={"deterministic": "skip"})

    deterministic: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do with an encoder that has no variance; skip: report nothing"
    )


class WorstReconstructionsSpec(EvaluatorSpec):
    """The images that are reconstructed worst, as pictures."""

    kind: Literal["worst-reconstructions"] = "worst-reconstructions"
    builds: ClassVar[str] = "diffusability.eval.reconstruction.worst_reconstructions:WorstReconstructions"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "reconstruction"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = reconstruction_metrics.WORST_PSNR
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse()

    num_pictures: PositiveInt = Field(6, le=64)
