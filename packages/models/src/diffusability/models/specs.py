"""The kinds that this package installs. Free of torch: what is built is imported when it is built."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from diffusability.core.build import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import (
    AnyDenoiser,
    AutoencoderSpec,
    ObjectiveSpec,
    SamplerSpec,
)
from diffusability.models.dit_spec import DiTSpec
from diffusability.models.parameter_counts import compact_kl_parameters
from diffusability.models.reconstruction_spec import ReconstructionSpec

if TYPE_CHECKING:
    from diffusability.core.autoencoder import Autoencoder
    from diffusability.core.objective import Objective
    from diffusability.core.sampler import Sampler

__all__ = ["CompactKLSpec", "DiTSpec", "EulerSpec", "FlowMatchingSpec", "ReconstructionSpec"]


class CompactKLSpec(AutoencoderSpec):
    """A small convolutional KL autoencoder that trains on a CPU."""

    kind: Literal["compact-kl"] = "compact-kl"
    latent_channels: PositiveInt = 16
    spatial_factor: PositiveInt = Field(8, description="image pixels per latent pixel, a power of two")
    image_channels: PositiveInt = 3
    width: PositiveInt = Field(64, description="channels of every hidden layer, a multiple of 16")
    blocks: PositiveInt = Field(4, description="residual blocks per level of the encoder, and of the decoder")
    patch_shortcut: bool = Field(
        True, description="add linear maps between patches and latents: quick to learn, slower to change in fine-tuning"
    )

    @field_validator("spatial_factor")
    @classmethod
    def _power_of_two(cls, factor: int) -> int:
        if factor & (factor - 1):
            raise ValueError(f"spatial_factor is {factor!r}; expected a power of two, such as 4, 8 or 16")
        return factor

    @field_validator("width")
    @classmethod
    def _whole_groups(cls, width: int) -> int:
        if width % 16:
            raise ValueError(f"width is {width!r}; expected a multiple of 16, the channels of a normalisation group")
        return width

    @property
    def stem_factor(self) -> int:
        """The part of the spatial factor that pixel-unshuffling takes: hidden layers see images at most this small."""
        return min(4, self.spatial_factor)

    @property
    def num_levels(self) -> int:
        """Resolutions of hidden layers, each half of the one before."""
        return (self.spatial_factor // self.stem_factor).bit_length()

    def info(self, context: BuildContext) -> AutoencoderInfo:
        return AutoencoderInfo(
            latent_channels=self.latent_channels,
            spatial_factor=self.spatial_factor,
            image_channels=self.image_channels,
        )

    def num_parameters(self, context: BuildContext) -> int:
        return compact_kl_parameters(
            image_channels=self.image_channels,
            latent_channels=self.latent_channels,
            spatial_factor=self.spatial_factor,
            stem_factor=self.stem_factor,
            num_levels=self.num_levels,
            width=self.width,
            blocks=self.blocks,
            patch_shortcut=self.patch_shortcut,
        )

    def build(self, context: BuildContext) -> "Autoencoder":
        from diffusability.models.compact_kl import CompactKL

        return CompactKL(
            info=self.info(context),
            stem_factor=self.stem_factor,
            num_levels=self.num_levels,
            width=self.width,
            blocks=self.blocks,
            patch_shortcut=self.patch_shortcut,
        )


class FlowMatchingSpec(ObjectiveSpec):
    """Trains a denoiser to predict the velocity of rectified flow (Liu et al. 2023; Esser et al. 2024)."""

    kind: Literal["flow-matching"] = "flow-matching"
    provides: ClassVar[frozenset[str]] = frozenset({"latents", "time", "prediction", "target"})
    trains_on: ClassVar[Literal["images", "latents"]] = "latents"

    denoiser: AnyDenoiser
    time_distribution: Literal["logit-normal", "uniform"] = "logit-normal"
    time_mean: float = Field(0.0, description="mean of logit(t), for logit-normal times")
    time_std: PositiveFloat = Field(1.0, description="standard deviation of logit(t), for logit-normal times")
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="share of labels replaced by 'no class' while training, for guidance"
    )

    @model_validator(mode="after")
    def _logit_normal_only(self) -> "FlowMatchingSpec":
        if self.time_distribution == "uniform" and (self.time_mean, self.time_std) != (0.0, 1.0):
            raise ValueError(
                f"time_mean {self.time_mean!r} and time_std {self.time_std!r} shape logit-normal times,"
                " and time_distribution is 'uniform'; leave them out"
            )
        return self

    def num_parameters(self, context: BuildContext) -> int | None:
        return self.denoiser.num_parameters(context)

    def build(self, context: BuildContext) -> "Objective":
        from diffusability.models.flow_matching import FlowMatching, logit_normal_times, uniform_times
        from diffusability.models.starting_model import starting_model

        logit_normal = self.time_distribution == "logit-normal"
        return FlowMatching(
            model=starting_model(self.denoiser, context),
            label_dropout=self.label_dropout,
            draw_times=partial(logit_normal_times, mean=self.time_mean, std=self.time_std)
            if logit_normal
            else uniform_times,
        )


class EulerSpec(SamplerSpec):
    """Euler's method in equal steps of time, with classifier-free guidance."""

    kind: Literal["euler"] = "euler"
    steps: PositiveInt = 40

    def build(self, context: BuildContext) -> "Sampler":
        from diffusability.models.euler import EulerSampler

        return EulerSampler(steps=self.steps, guidance_scale=self.guidance_scale)
