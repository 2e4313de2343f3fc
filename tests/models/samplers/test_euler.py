from collections.abc import Callable

import attrs
import torch
from known_models import Linear, TwoPoints
from torch import Tensor

from diffusability.core.contracts.parametrisation import interpolate, velocity
from diffusability.models.samplers.euler import EulerSampler
from diffusability.models.samplers.euler_maruyama import EulerMaruyamaSampler


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


def test_one_step_is_one_subtraction(noise: Callable[..., Tensor]) -> None:
    """A single step against ``z - v(z, 1)``."""
    start = noise(3, 1, 2, 2)
    labels = torch.tensor([0, 1, 2])
    sample = EulerSampler(steps=1).sample(Linear(), start, labels)
    torch.testing.assert_close(sample, start - ((labels.view(-1, 1, 1, 1) + 1) * start + 1))


def test_the_automatic_shift_of_steps(noise: Callable[..., Tensor]) -> None:
    """Latents of 16 x 48 x 48 numbers, 9 times 4096, against shift 3; for the SDE's sampler, too."""
    start, labels = noise(1, 16, 48, 48), torch.tensor([0])
    for sampler in (
        EulerSampler(steps=3),
        EulerMaruyamaSampler(steps=3),
        EulerMaruyamaSampler(steps=3, last_step="mean"),
    ):
        expected = attrs.evolve(sampler, time_shift=3.0).sample(Linear(), start, labels)
        automatic = attrs.evolve(sampler, time_shift="auto").sample(Linear(), start, labels)
        torch.testing.assert_close(automatic, expected, rtol=0, atol=0)


def test_time_shift_moves_the_steps(noise: Callable[..., Tensor]) -> None:
    """Two steps at shift 3 against the same written out: the middle time is 3 * 0.5 / (1 + 2 * 0.5) = 0.75."""
    start, labels = noise(2, 1, 2, 2, dtype=torch.float64), torch.tensor([0, 0])
    middle = start - 0.25 * (start + 1)
    expected = middle - 0.75 * (middle + 0.75)
    torch.testing.assert_close(EulerSampler(steps=2, time_shift=3.0).sample(Linear(), start, labels), expected)
