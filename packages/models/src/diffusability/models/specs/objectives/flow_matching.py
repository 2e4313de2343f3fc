"""The kind ``flow-matching``. Free of torch."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, model_validator

from diffusability.core.specs.base import fail
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AnyDenoiser, ObjectiveSpec
from diffusability.models.specs.time_shift import BASE, TimeShift, dimension_shift, said

_DEFAULT_STRENGTH = {"min-snr": 5.0, "sigmoid": 0.0}


class FlowMatchingSpec(ObjectiveSpec):
    """Trains a denoiser along the straight path from data to noise (Liu et al. 2023; Esser et al. 2024)."""

    kind: Literal["flow-matching"] = "flow-matching"
    builds: ClassVar[str] = "diffusability.models.objectives.flow_matching:FlowMatching"
    provides: ClassVar[frozenset[str]] = frozenset({"latents", "time", "prediction", "target"})
    trains_on: ClassVar[Literal["images", "latents"]] = "latents"

    denoiser: AnyDenoiser
    prediction: Literal["velocity", "data", "noise"] = Field("velocity", description="what the denoiser predicts")
    loss_on: Literal["velocity", "data", "noise"] | None = Field(
        None, description="whose squared error is minimised; default: that of the prediction"
    )
    weighting: Literal["none", "min-snr", "sigmoid"] = Field(
        "none",
        description="min-snr: min(SNR, gamma) on the data's error; sigmoid: sigmoid(bias - log SNR) on the noise's",
    )
    weighting_strength: float | None = Field(
        None, description="gamma of min-snr, default 5; bias of sigmoid, default 0"
    )
    time_distribution: Literal["logit-normal", "uniform"] = "logit-normal"
    time_mean: float = Field(0.0, description="mean of logit(t), for logit-normal times")
    time_std: PositiveFloat = Field(1.0, description="standard deviation of logit(t), for logit-normal times")
    time_shift: TimeShift = Field(
        1.0,
        description="moves drawn times towards noise (above 1) or data (below): t -> s t / (1 + (s - 1) t); auto:"
        " sqrt(m / time_shift_base), m the numbers in a sample's latents",
    )
    time_shift_base: PositiveFloat = Field(BASE, description="numbers in latents that need no shift, for auto")
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

    @model_validator(mode="after")
    def _base_of_auto_only(self) -> "FlowMatchingSpec":
        if self.time_shift != "auto" and self.time_shift_base != BASE:
            text = f"time_shift_base is for time_shift auto, and time_shift is {self.time_shift!r}; leave it out"
            raise fail("time_shift_base", text, self.time_shift_base, type(self).__name__)
        return self

    @model_validator(mode="after")
    def _weighting_fits(self) -> "FlowMatchingSpec":
        name = type(self).__name__
        if self.weighting == "none" and self.weighting_strength is not None:
            text = f"weighting_strength {self.weighting_strength!r} is of use with a weighting only; leave it out"
            raise fail("weighting_strength", text, self.weighting_strength, name)
        if self.weighting != "none" and self.loss_on is not None:
            text = f"weighting {self.weighting!r} says itself whose error it weighs; leave loss_on out"
            raise fail("loss_on", text, self.loss_on, name)
        if self.weighting == "min-snr" and self.strength() <= 0:
            text = f"gamma of min-snr is {self.strength()!r}; expected a positive number"
            raise fail("weighting_strength", text, self.weighting_strength, name)
        if getattr(self.denoiser, "learn_sigma", False):
            text = "flow matching learns no variance; expected a denoiser with learn_sigma: false (ddpm learns one)"
            raise fail(("denoiser", "learn_sigma"), text, True, name)
        return self

    def strength(self) -> float:
        """Gamma or bias of the weighting."""
        given = self.weighting_strength
        return _DEFAULT_STRENGTH.get(self.weighting, 0.0) if given is None else given

    def shift(self, latent_shape: tuple[int, ...] | None) -> float:
        """The time shift for latents of shape ``(c, *t, h, w)``. Raises ValueError for auto without a shape."""
        if self.time_shift != "auto":
            return self.time_shift
        if latent_shape is None:
            raise ValueError("time_shift auto needs to know the shape of the latents, and the context has none")
        return dimension_shift(latent_shape, self.time_shift_base)

    def remarks(self, context: BuildContext) -> list[str]:
        return said(self.time_shift, context.latent_shape, self.time_shift_base)

    def num_parameters(self, context: BuildContext) -> int | None:
        return self.denoiser.num_parameters(context)
