"""Guidance: the velocity of a class, pushed away from that of no class or of a weaker model."""

import attrs
import torch

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.velocity_model import VelocityModel, data_estimate
from diffusability.core.errors import DataError, SpecError
from diffusability.core.models.saved_models import trained_model
from diffusability.core.shapes import Labels, Latents, Times
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.guidance import no_classes_message
from diffusability.models.specs.samplers import GuidedSamplerSpec

#: Times of steps are known up to rounding: ``1 - 0.7`` is above 0.3.
_ROUNDING = 1e-9


def extrapolated(weak: Latents, strong: Latents, scale: float, channels: int | None = None) -> Latents:
    """``weak + s (strong - weak)``, of the first channels only where their number is given; the others stay strong.

    Classifier-free guidance when weak is the prediction without class (Ho & Salimans 2022, equation 6 with s = 1 + w),
    autoguidance when it is that of a worse model (Karras et al. 2024, equation 3).
    """
    guided = weak + scale * (strong - weak)
    return guided if channels is None else torch.cat([guided[:, :channels], strong[:, channels:]], dim=1)


@attrs.frozen(kw_only=True, eq=False)
class Guidance:
    """How velocities are guided.

    Attributes:
        scale: strength; 1 is none.
        interval: steps that start at times in (low, high] are guided, as a whole; others have scale 1 (Kynkaanniemi et
            al. 2024).
        channels: how many of the latents' channels are guided, from the first; None for all. The published sampling
            code of DiT and SiT guides 3 of 4.
        guide: a weaker model that takes the place of "no class" (autoguidance).
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    guide: VelocityModel | None = None
    channels: int | None = None

    @classmethod
    def from_spec(cls, spec: GuidedSamplerSpec, context: BuildContext) -> "Guidance":
        """The guidance that a sampler's spec describes, with the guide's weights loaded."""
        guide = None
        if spec.guide is not None:
            guide = trained_model(spec.guide, context).velocity_model().eval().requires_grad_(False)
        return cls(
            scale=spec.guidance_scale,
            interval=spec.guidance_interval,
            guide=guide,
            channels=spec.guidance_channels,
        )

    def bind(self, denoiser: Denoiser, labels: Labels | None) -> "GuidedVelocity":
        """The guided velocity of a denoiser for these classes, for one batch of samples.

        Raises:
            SpecError: the model is unconditional or there are no labels, and guidance needs both; or the guide is for
                other latents.
            DataError: a label is out of range.
        """
        model = VelocityModel.from_denoiser(denoiser)
        _check_labels(model, labels)
        if self.scale != 1 and self.guide is None:
            _check_classes(model, labels, self.scale)
        if self.guide is not None:
            _check_guide(model, self.guide)
        return GuidedVelocity(model=model, labels=labels, guidance=self)

    def acts_at(self, time: float) -> bool:
        """Whether there is anything to guide in a step that starts at a time and leads to a lower one."""
        low, high = self.interval
        return self.scale != 1 and low + _ROUNDING < time <= high + _ROUNDING


#: Velocities as they are.
NO_GUIDANCE = Guidance()


@attrs.define(kw_only=True, eq=False)
class GuidedVelocity:
    """Velocities along the trajectories of one batch. Hands the last estimate of the data to self-conditioning models.

    Attributes:
        model: the model of velocities.
        labels: classes, one for each sample.
        guidance: how it is guided.
        variance_share: what the model last said of the variance, for the class; None when it learns none.
    """

    model: VelocityModel
    labels: Labels | None
    guidance: Guidance
    variance_share: Latents | None = None
    _estimate: Latents | None = None

    def __call__(self, latents: Latents, time: float, step_start: float | None = None) -> Latents:
        """The velocities of all samples at one time, guided or not as at the start of the step (default: that time)."""
        times = torch.full((len(latents),), time, dtype=torch.float64, device=latents.device)
        guided = self.guidance.acts_at(time if step_start is None else step_start)
        velocity = self._guided(latents, times) if guided else self._plain(latents, times)
        if self.model.self_conditioning or (self.guidance.guide is not None and self.guidance.guide.self_conditioning):
            self._estimate = data_estimate(velocity, latents, times)
        return velocity

    def _plain(self, latents: Latents, times: Times) -> Latents:
        velocity, self.variance_share = self._of(self.model, latents, times, self.labels, self._estimate)
        return velocity

    def _guided(self, latents: Latents, times: Times) -> Latents:
        scale, guide = self.guidance.scale, self.guidance.guide
        if guide is not None:
            labels = self.labels if guide.num_classes is not None else None
            weak, _ = self._of(guide.to(latents.device), latents, times, labels, self._estimate)
            return extrapolated(weak, self._plain(latents, times), scale, self.guidance.channels)
        assert self.labels is not None
        assert self.model.num_classes is not None
        estimate = None if self._estimate is None else self._estimate.repeat(2, *[1] * (latents.ndim - 1))
        both_labels = torch.cat([self.labels, torch.full_like(self.labels, self.model.num_classes)])
        twice, both_times = torch.cat([latents, latents]), torch.cat([times, times])
        both, share = self._of(self.model, twice, both_times, both_labels, estimate)
        self.variance_share = None if share is None else share[: len(latents)]
        with_class, without = both.chunk(2)
        return extrapolated(without, with_class, scale, self.guidance.channels)

    @staticmethod
    def _of(
        model: VelocityModel, latents: Latents, times: Times, labels: Labels | None, estimate: Latents | None
    ) -> tuple[Latents, Latents | None]:
        return model.with_variance(latents, times, labels, estimate if model.self_conditioning else None)


def _check_labels(model: VelocityModel, labels: Labels | None) -> None:
    if labels is None or model.num_classes is None or len(labels) == 0:
        return
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > model.num_classes:
        wrong = lowest if lowest < 0 else highest
        raise DataError(
            f"class label {wrong!r} is out of range for a model of {model.num_classes} classes; expected 0 to"
            f" {model.num_classes - 1}, or {model.num_classes} for no class"
        )


def _check_classes(model: VelocityModel, labels: Labels | None, scale: float) -> None:
    if model.num_classes is None:
        reason = f"this {type(model.denoiser).__name__} is unconditional (num_classes is None)"
        raise SpecError(no_classes_message(scale, reason))
    if labels is None:
        raise SpecError(f"guidance_scale {scale!r} needs class labels, and none were given; expected scale 1")


def _check_guide(model: VelocityModel, guide: VelocityModel) -> None:
    if guide.num_classes not in (None, model.num_classes):
        raise SpecError(
            f"the guide is a model of {guide.num_classes} classes, the guided one of {model.num_classes};"
            " expected equal numbers, or an unconditional guide"
        )
    if model.normalizer is not None and guide.normalizer is not None and not _equal(model.normalizer, guide.normalizer):
        theirs, ours = guide.normalizer.per_channel(), model.normalizer.per_channel()
        raise SpecError(
            "the guide was trained on other latents than the model that it guides: the means and standard deviations of"
            f" channels are {theirs.mean.tolist()!r}, {theirs.std.tolist()!r} and {ours.mean.tolist()!r},"
            f" {ours.std.tolist()!r}; expected equal ones"
        )


def _equal(own: LatentNormalizer, others: LatentNormalizer) -> bool:
    if own.mean.shape != others.mean.shape:
        return False
    pairs = ((own.mean, others.mean), (own.std, others.std))
    return all(torch.allclose(first.cpu(), second.cpu(), rtol=1e-4, atol=1e-5) for first, second in pairs)
