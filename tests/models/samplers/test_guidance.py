import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from known_models import Gaussian, Linear
from pydantic import ValidationError
from torch import Tensor

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.contracts.velocity_model import VelocityModel
from diffusability.core.errors import DataError, SpecError
from diffusability.core.specs.components import SamplerSpec
from diffusability.models.samplers.dpm_solver import DPMSolverSampler
from diffusability.models.samplers.euler import EulerSampler
from diffusability.models.samplers.guidance import Guidance
from diffusability.models.samplers.heun import HeunSampler


class Constant(Denoiser):
    """The same velocity everywhere."""

    def __init__(self, value: float, num_classes: int | None = None) -> None:
        super().__init__()
        self.value = value
        self.num_classes = num_classes

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        return torch.full_like(latents, self.value)


class Remembering(Denoiser):
    """Velocity 0.5 z, and a record of the earlier estimates that it got."""

    self_conditioning = True
    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.estimates: list[Tensor | None] = []

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        self.estimates.append(previous_estimate)
        return 0.5 * latents


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.5])
def test_guidance_extrapolates_from_no_class(scale: float, noise: Callable[..., Tensor]) -> None:
    """Two guided steps against ``v(no class) + s (v(class) - v(no class))`` written out."""
    labels = torch.tensor([0, 2])
    start = noise(2, 1, 2, 2, dtype=torch.float64)
    expected = start
    for time in (1.0, 0.5):
        unconditional = (Linear.num_classes + 1) * expected + time
        conditional = (labels.view(-1, 1, 1, 1) + 1) * expected + time
        expected = expected - (unconditional + scale * (conditional - unconditional)) / 2
    denoiser = Linear()
    sample = EulerSampler(steps=2, guidance=Guidance(scale=scale)).sample(denoiser, start, labels)
    torch.testing.assert_close(sample, expected)
    assert denoiser.batch_sizes == [4, 4]


def test_guidance_scale_one_evaluates_once(noise: Callable[..., Tensor]) -> None:
    """Batch sizes seen by the denoiser without guidance, against the batch's own."""
    denoiser = Linear()
    EulerSampler(steps=3).sample(denoiser, noise(2, 1, 2, 2), torch.tensor([0, 1]))
    assert denoiser.batch_sizes == [2, 2, 2]


def test_guidance_acts_in_its_interval_only(noise: Callable[..., Tensor]) -> None:
    """Batch sizes at times 1, 0.75, 0.5, 0.25 with guidance between 0.4 and 0.8: doubled in the middle."""
    denoiser = Linear()
    guidance = Guidance(scale=2.0, interval=(0.4, 0.8))
    EulerSampler(steps=4, guidance=guidance).sample(denoiser, noise(2, 1, 2, 2), torch.tensor([0, 1]))
    assert denoiser.batch_sizes == [2, 4, 4, 2]


class ByClass(Denoiser):
    """Velocity ``-z`` for the class, ``-z / 2`` without: guided at scale 3 it is ``-2 z``."""

    num_classes = 1

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        assert labels is not None
        return -latents / (labels.view(-1, 1, 1, 1) + 1)


@pytest.mark.parametrize(("sampler", "order"), [(EulerSampler, 1), (HeunSampler, 2), (DPMSolverSampler, 2)])
def test_samplers_keep_their_order_where_guidance_sets_in_and_ends(sampler: Callable[..., Sampler], order: int) -> None:
    """Guided from 0.75 to 0.25, at times of steps: the exact flow grows by ``exp(0.25 + 2 * 0.5 + 0.25)``."""
    start, labels = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.tensor([0])
    guidance = Guidance(scale=3.0, interval=(0.25, 0.75))
    counts = (32, 64, 128, 256)
    errors = [
        abs(sampler(steps=steps, guidance=guidance).sample(ByClass(), start, labels).item() - math.exp(1.5))
        for steps in counts
    ]
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(order, abs=0.35 if order == 2 else 0.1)


def test_both_slopes_of_a_step_of_heun_are_guided_alike() -> None:
    """Batch sizes and the sample against Heun's method by hand over times 1, 0.75, 0.5, 0.25, 0, guided in
    (0.25, 0.75]: the first step, to 0.75, and the last, from 0.25, not at all."""
    denoiser, start = Linear(), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    guidance = Guidance(scale=2.0, interval=(0.25, 0.75))
    sample = HeunSampler(steps=4, guidance=guidance).sample(denoiser, start, torch.tensor([0]))
    assert denoiser.batch_sizes == [1, 1, 2, 2, 2, 2, 1]
    expected = 1.0
    for time, guided in ((1.0, False), (0.75, True), (0.5, True), (0.25, False)):
        field = (lambda z, t: (5 * z + t) + 2 * (z - 5 * z)) if guided else (lambda z, t: z + t)
        first = field(expected, time)
        second = field(expected - first / 4, time - 0.25) if time > 0.25 else first
        expected -= (first + second) / 8
    assert sample.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.7), (0.1, 0.9), (0.0, 1.0)])
def test_ends_of_the_interval_are_met_despite_rounding(low: float, high: float) -> None:
    """Of ten equal steps, those that start in (low, high]; ``1 - 0.7`` is above 0.3 in floating point."""
    guidance = Guidance(scale=2.0, interval=(low, high))
    guided = [step for step in range(10) if guidance.acts_at(1 - step / 10)]
    assert guided == [step for step in range(10) if round(10 * low) < 10 - step <= round(10 * high)]


def test_autoguidance_extrapolates_from_the_weaker_model(noise: Callable[..., Tensor]) -> None:
    """Velocities 1 (weak) and 3 (strong) at scale 2 give 1 + 2 * 2 = 5, over one unit of time."""
    start = noise(2, 1, 2, 2)
    guidance = Guidance(scale=2.0, guide=VelocityModel(Constant(1.0)))
    sample = EulerSampler(steps=2, guidance=guidance).sample(Constant(3.0), start)
    torch.testing.assert_close(sample, start - 5)


def test_self_conditioning_hands_on_the_estimate_of_the_data(noise: Callable[..., Tensor]) -> None:
    """Estimates that the denoiser gets: none at first, then ``z - t v = z (1 - t / 2)`` of the step before, also for
    both halves of a guided batch.
    """
    start = noise(2, 1, 2, 2)
    denoiser = Remembering()
    EulerSampler(steps=2).sample(denoiser, start, torch.tensor([0, 1]))
    assert denoiser.estimates[0] is None
    torch.testing.assert_close(denoiser.estimates[1], 0.5 * start)
    denoiser = Remembering()
    EulerSampler(steps=2, guidance=Guidance(scale=3.0)).sample(denoiser, start, torch.tensor([0, 1]))
    torch.testing.assert_close(denoiser.estimates[1], 0.5 * torch.cat([start, start]))


def test_guidance_of_an_unconditional_model_is_refused(noise: Callable[..., Tensor]) -> None:
    """The message names the scale, the model and the way out."""
    expected = r"guidance_scale 3\.0 needs a class-conditional model, and this Gaussian is .*scale 1, or a guide$"
    with pytest.raises(SpecError, match=expected):
        EulerSampler(steps=2, guidance=Guidance(scale=3.0)).sample(Gaussian(1.0), noise(1, 1, 2, 2))


def test_guidance_without_labels_is_refused(noise: Callable[..., Tensor]) -> None:
    """The message names the scale and says that labels are missing."""
    with pytest.raises(SpecError, match=r"guidance_scale 3\.0 needs class labels"):
        EulerSampler(steps=2, guidance=Guidance(scale=3.0)).sample(Linear(), noise(1, 1, 2, 2))


@pytest.mark.parametrize("label", [-1, 5])
def test_labels_out_of_range_are_refused(label: int, noise: Callable[..., Tensor]) -> None:
    """The message names the label and the number of classes."""
    with pytest.raises(DataError, match=rf"class label {label} is out of range for a model of 4 classes"):
        EulerSampler(steps=2).sample(Linear(), noise(2, 1, 2, 2), torch.tensor([0, label]))


def test_a_guide_for_other_classes_or_latents_is_refused(noise: Callable[..., Tensor]) -> None:
    """Messages name both numbers of classes, and both means of channels."""
    start, labels = noise(1, 1, 2, 2), torch.tensor([0])
    guidance = Guidance(scale=2.0, guide=VelocityModel(Constant(1.0, num_classes=7)))
    with pytest.raises(SpecError, match=r"a model of 7 classes, the guided one of 4"):
        EulerSampler(steps=2, guidance=guidance).sample(Linear(), start, labels)
    shifted = LatentNormalizer(torch.tensor([2.0]), torch.tensor([1.0]))
    guidance = Guidance(scale=2.0, guide=VelocityModel(Constant(1.0), normalizer=shifted))
    model = VelocityModel(Linear(), normalizer=LatentNormalizer.identity(1))
    with pytest.raises(SpecError, match=r"trained on other latents .*\[2\.0\].*\[0\.0\]"):
        EulerSampler(steps=2, guidance=guidance).sample(model, start, labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance_interval": [0.2, 0.8]}, r"guidance_interval has no effect at guidance_scale 1"),
        ({"guide": {"kind": "stage", "stage": "small"}}, r"guide has no effect at guidance_scale 1"),
        ({"guidance_scale": 2, "guidance_interval": [0.8, 0.2]}, r"\[0\.8, 0\.2\]; expected two rising times"),
        ({"guidance_scale": -1}, r"greater than or equal to 0"),
        ({"time_shift": 0}, r"greater than 0"),
        ({"steps": 0}, r"greater than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    """What a spec says of guidance against a sentence that names it."""
    with pytest.raises(ValidationError, match=message):
        SamplerSpec.model_validate({"kind": "euler", **settings})
