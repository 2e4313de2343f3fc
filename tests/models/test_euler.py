from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffusability.core.denoiser import Denoiser
from diffusability.core.errors import SpecError
from diffusability.models.euler import EulerSampler
from diffusability.models.flow_matching import interpolate, velocity


class TwoPoints(Denoiser):
    """The optimal velocity for data that is one of two points with equal probability, in closed form.

    ``E[eps - z | z_t] = (z_t - E[z | z_t]) / t``, with posterior weights ``exp(-|z_t - (1 - t) z|^2 / (2 t^2))``.
    """

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points = points

    def posterior_mean(self, latents: Tensor, time: Tensor) -> Tensor:
        t = time.view(-1, 1, 1, 1, 1)
        squared = (latents[:, None] - (1 - t) * self.points).square().flatten(2).sum(2)
        weights = torch.softmax(-squared / (2 * time[:, None] ** 2), dim=1)
        return torch.einsum("bk,kchw->bchw", weights, self.points)

    def forward(self, latents: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
        return (latents - self.posterior_mean(latents, time)) / time.view(-1, 1, 1, 1)


class Gaussian(Denoiser):
    """The optimal velocity for data ``N(0, s^2)``: ``z (t - (1 - t) s^2) / ((1 - t)^2 s^2 + t^2)``."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, latents: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
        t = time.view(-1, 1, 1, 1)
        return latents * (t - (1 - t) * self.std**2) / ((1 - t) ** 2 * self.std**2 + t**2)


class Linear(Denoiser):
    """Velocity ``(label + 1) z + t``, and a record of the batch sizes that it was called with."""

    num_classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.batch_sizes: list[int] = []

    def forward(self, latents: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
        self.batch_sizes.append(len(latents))
        assert labels is not None
        return (labels.view(-1, 1, 1, 1) + 1) * latents + time.view(-1, 1, 1, 1)


def test_the_closed_form_is_the_best_velocity_for_two_points(noise: Callable[..., Tensor]) -> None:
    """The closed form's mean squared error against the same, scaled up and down: it is a minimum (checks the test)."""
    points = torch.tensor([2.0, -1.0], dtype=torch.float64).view(2, 1, 1, 1)
    best = TwoPoints(points)
    choice = (torch.arange(20_000) % 2).long()
    latents, eps = points[choice], noise(20_000, 1, 1, 1, dtype=torch.float64)
    time = torch.full((20_000,), 0.4, dtype=torch.float64)
    predicted = best(interpolate(latents, eps, time), time, None)
    target = velocity(latents, eps)
    error = (predicted - target).square().mean()
    for scale in (0.97, 1.03):
        assert (scale * predicted - target).square().mean() > error


def test_the_optimal_velocity_leads_to_the_data(noise: Callable[..., Tensor]) -> None:
    """Samples of the two-point velocity against the two points, which both occur."""
    points = noise(2, 3, 2, 2, seed=5, dtype=torch.float64)
    samples = EulerSampler(steps=50).sample(TwoPoints(points), noise(64, 3, 2, 2, dtype=torch.float64))
    distances = (samples[:, None] - points).flatten(2).norm(dim=2)
    assert distances.min(1).values.max() < 1e-6
    assert set(distances.argmin(1).tolist()) == {0, 1}


def test_euler_converges_at_first_order_to_the_closed_form(noise: Callable[..., Tensor]) -> None:
    """Errors on a Gaussian against the exact flow ``z_0 = s z_1``: halved when the steps are doubled."""
    start = noise(8, 2, 2, 2, dtype=torch.float64)
    errors = [
        (EulerSampler(steps=steps).sample(Gaussian(0.5), start) - 0.5 * start).abs().max().item()
        for steps in (50, 100, 200, 400)
    ]
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2, rel=0.1)


def test_one_step_is_one_subtraction(noise: Callable[..., Tensor]) -> None:
    """A single step against ``z - v(z, 1)``."""
    start = noise(3, 1, 2, 2)
    labels = torch.tensor([0, 1, 2])
    sample = EulerSampler(steps=1).sample(Linear(), start, labels)
    torch.testing.assert_close(sample, start - ((labels.view(-1, 1, 1, 1) + 1) * start + 1))


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
    sample = EulerSampler(steps=2, guidance_scale=scale).sample(denoiser, start, labels)
    torch.testing.assert_close(sample, expected)
    assert denoiser.batch_sizes == [4, 4]


def test_guidance_scale_one_evaluates_once(noise: Callable[..., Tensor]) -> None:
    """Batch sizes seen by the denoiser without guidance, against the batch's own."""
    denoiser = Linear()
    EulerSampler(steps=3).sample(denoiser, noise(2, 1, 2, 2), torch.tensor([0, 1]))
    assert denoiser.batch_sizes == [2, 2, 2]


def test_guidance_of_an_unconditional_model_is_refused(noise: Callable[..., Tensor]) -> None:
    """The message names the scale and the model."""
    with pytest.raises(SpecError, match=r"guidance_scale 3\.0 .* this Gaussian is unconditional"):
        EulerSampler(steps=2, guidance_scale=3.0).sample(Gaussian(1.0), noise(1, 1, 2, 2))


def test_guidance_without_labels_is_refused(noise: Callable[..., Tensor]) -> None:
    """The message names the scale and says that labels are missing."""
    with pytest.raises(SpecError, match=r"guidance_scale 3\.0 needs class labels"):
        EulerSampler(steps=2, guidance_scale=3.0).sample(Linear(), noise(1, 1, 2, 2))
