"""What a YAML file says of the evaluators of this package. Free of torch: ``build`` imports it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from diffusability.core.specs.base import fail
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.specs.metric_info import MetricInfo
from diffusability.core.specs.scorecard import ScorecardUse
from diffusability.eval.specs import spectra_metrics

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


ShareKept = Annotated[float, Field(gt=0, le=1)]


class DCTSpectrumSpec(EvaluatorSpec):
    """Spectra of latents and of images in block DCTs, and how much of them is at high frequencies."""

    kind: Literal["dct-spectrum"] = "dct-spectrum"
    builds: ClassVar[str] = "diffusability.eval.spectra.dct_spectrum:DCTSpectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = spectra_metrics.DCT_SPECTRUM
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse()

    block_size: int = Field(8, ge=4, le=64, description="side of a block; smaller latents take a smaller power of two")


class ChopOffSpec(EvaluatorSpec):
    """Reconstruction quality when the high DCT frequencies of the latents are removed before decoding."""

    kind: Literal["chop-off"] = "chop-off"
    builds: ClassVar[str] = "diffusability.eval.spectra.chop_off:ChopOff"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents", "autoencoder"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = spectra_metrics.CHOP_OFF
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse(
        most_samples=16, fields={"shares": [1.0, 0.5, 0.25, 0.125, 0.0625]}
    )

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


class ChannelStatisticsSpec(EvaluatorSpec):
    """Mean, standard deviation, kurtosis and correlation of the latents' channels."""

    kind: Literal["channel-statistics"] = "channel-statistics"
    builds: ClassVar[str] = "diffusability.eval.spectra.channel_statistics:ChannelStatisticsEvaluator"
    needs: ClassVar[frozenset[str]] = frozenset({"latents"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = spectra_metrics.CHANNEL_STATISTICS
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse()


InnerTime = Annotated[float, Field(gt=0, lt=1)]


class DenoisingSpectrumSpec(EvaluatorSpec):
    """What a trained denoiser knows of each frequency at each noise level: which ones are resolved when."""

    kind: Literal["denoising-spectrum"] = "denoising-spectrum"
    builds: ClassVar[str] = "diffusability.eval.spectra.denoising_spectrum:DenoisingSpectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"latents", "diffusion_model"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = spectra_metrics.DENOISING_SPECTRUM

    times: tuple[InnerTime, ...] = Field(
        (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95),
        description="noise levels, rising, from data at 0 to noise at 1; each costs one evaluation of the denoiser",
    )
    block_size: int = Field(8, ge=4, le=64, description="side of a block; smaller latents take a smaller power of two")
    seed: int = Field(0, description="of the noise")

    @model_validator(mode="after")
    def _times_rise(self) -> "DenoisingSpectrumSpec":
        if len(self.times) < 2 or list(self.times) != sorted(set(self.times)):
            text = f"times must be at least two, rising, got {list(self.times)!r}"
            raise fail("times", text, self.times, type(self).__name__)
        return self


class ErrorAccumulationSpec(EvaluatorSpec):
    """How the errors of single sampling steps add up along the sampler, and at which frequencies."""

    kind: Literal["error-accumulation"] = "error-accumulation"
    builds: ClassVar[str] = "diffusability.eval.spectra.error_accumulation:ErrorAccumulation"
    needs: ClassVar[frozenset[str]] = frozenset({"latents", "diffusion_model"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = spectra_metrics.ERROR_ACCUMULATION

    steps: int = Field(
        20, ge=2, description="steps of Euler's method; each is two evaluations of the denoiser a sample"
    )
    time_shift: PositiveFloat = Field(1.0, description="moves the steps towards noise (above 1) or data (below)")
    block_size: int = Field(8, ge=4, le=64, description="side of a block; smaller latents take a smaller power of two")
    seed: int = Field(0, description="of the noise")


class SamplingPathSpec(EvaluatorSpec):
    """How straight the trajectories of a trained denoiser's ODE are, from noise to data."""

    kind: Literal["sampling-path"] = "sampling-path"
    builds: ClassVar[str] = "diffusability.eval.spectra.sampling_path:SamplingPath"
    needs: ClassVar[frozenset[str]] = frozenset({"diffusion_model"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = spectra_metrics.SAMPLING_PATH

    num_samples: PositiveInt = Field(256, description="trajectories")
    steps: int = Field(40, ge=2, description="steps of Euler's method; each is one evaluation of the denoiser")
    time_shift: PositiveFloat = Field(1.0, description="moves the steps towards noise (above 1) or data (below)")
    seed: int = Field(0, description="of noise and classes")


class MapSpectrumSpec(EvaluatorSpec):
    """Spectra of whole maps, radial and in time: spectral slope and energy concentration (SEC)."""

    kind: Literal["map-spectrum"] = "map-spectrum"
    builds: ClassVar[str] = "diffusability.eval.spectra.map_spectrum:MapSpectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = spectra_metrics.MAP_SPECTRUM
    scorecard: ClassVar[ScorecardUse | None] = ScorecardUse()

    rho: float = Field(0.25, gt=0, lt=1, description="SEC: share of the largest u + v above which a frequency is high")
