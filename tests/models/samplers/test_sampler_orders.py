"""Orders of convergence on a Gaussian, whose flow carries z_1 to s z_1."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from known_models import Gaussian
from pydantic import ValidationError
from torch import Tensor

from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.contracts.velocity_model import VelocityModel
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import SamplerSpec
from diffusability.models.samplers.ddim import DDIMSampler
from diffusability.models.samplers.dpm_solver import DPMSolverSampler
from diffusability.models.samplers.euler import EulerSampler
from diffusability.models.samplers.euler_maruyama import EulerMaruyamaSampler
from diffusability.models.samplers.heun import HeunSampler

STEPS = (32, 64, 128, 256)
STD = 0.5


def slope(steps: Sequence[int], errors: Sequence[float]) -> float:
    """The order: minus the slope of the logarithm of the error against that of the steps."""
    return float(-np.polyfit(np.log(steps), np.log(errors), 1)[0])


@pytest.mark.parametrize("prediction", ["velocity", "data"])
@pytest.mark.parametrize(("sampler", "order"), [(EulerSampler, 1), (DDIMSampler, 1), (HeunSampler, 2)])
def test_samplers_of_the_ode_converge_at_their_order(
    sampler: Callable[..., Sampler], order: int, prediction: str, noise: Callable[..., Tensor]
) -> None:
    """The fitted slope of the error against the exact flow, for two parametrisations of the same model."""
    start = noise(4, 2, 2, 2, dtype=torch.float64)
    model = VelocityModel(Gaussian(STD, prediction), Parametrisation(prediction=prediction))
    errors = [(sampler(steps=steps).sample(model, start) - STD * start).abs().max().item() for steps in STEPS]
    assert slope(STEPS, errors) == pytest.approx(order, abs=0.15)


class InsideOfThePath(VelocityModel):
    """Samples from t = 0.95 to t = 0.05, in equal steps of the logarithm of the signal-to-noise ratio."""

    def start(self, noise: Tensor) -> Tensor:
        return noise

    def times(self, steps: int, shift: float = 1.0) -> list[float]:
        return torch.sigmoid(torch.linspace(math.log(19), -math.log(19), steps + 1, dtype=torch.float64)).tolist()


def test_dpm_solver_converges_at_second_order_in_log_snr(noise: Callable[..., Tensor]) -> None:
    """The fitted slope of the error against the exact flow, which scales latents by their standard deviation.

    In equal steps of time, where the first and the last step are infinite in log SNR, errors fall with N^2 / log N.
    """
    start = noise(4, 2, 2, 2, dtype=torch.float64)
    first, last = (math.sqrt((1 - t) ** 2 * STD**2 + t**2) for t in (0.95, 0.05))
    exact = start * last / first
    model = InsideOfThePath(Gaussian(STD))
    errors = [(DPMSolverSampler(steps=steps).sample(model, start) - exact).abs().max().item() for steps in STEPS]
    assert slope(STEPS, errors) == pytest.approx(2, abs=0.1)
    errors = [
        (DPMSolverSampler(steps=steps).sample(Gaussian(STD), start) - STD * start).abs().max().item() for steps in STEPS
    ]
    assert slope(STEPS, errors) > 1.6


class Impulses(BatchRandomness):
    """Noise 1 for the sample whose place is the step's number, plus one, and 0 for the others."""

    def normal(self, name: str, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        drawn = torch.zeros(len(self.positions), *shape, dtype=torch.float64)
        drawn[int(name.rpartition("-")[2]) + 1] = 1
        return drawn


def final_variance(sampler: Sampler, steps: int) -> float:
    """Exact variance of a sample: the sampler is linear here, so squared responses to all noises add up."""
    start = torch.zeros(steps + 1, 1, 1, 1, dtype=torch.float64)
    start[0] = 1
    randomness = Impulses(seed=0, step=0, positions=range(steps + 1))
    return sampler.sample(Gaussian(STD), start, None, randomness).square().sum().item()


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (lambda steps: EulerMaruyamaSampler(steps=steps, diffusion=1.0), 1),
        (lambda steps: EulerMaruyamaSampler(steps=steps, diffusion=3.0), 1),
        (lambda steps: DDIMSampler(steps=steps, eta=1.0), 1),
    ],
)
def test_samplers_of_the_sde_converge_weakly_at_first_order(make: Callable[[int], Sampler], order: int) -> None:
    """The fitted slope of the error of the samples' standard deviation, computed exactly, against the data's."""
    errors = [abs(math.sqrt(final_variance(make(steps), steps)) - STD) for steps in STEPS]
    assert slope(STEPS, errors) == pytest.approx(order, abs=0.2)


def test_euler_maruyama_without_diffusion_is_euler(noise: Callable[..., Tensor]) -> None:
    """Samples at diffusion 0 against Euler's."""
    start = noise(3, 2, 2, 2)
    sample = EulerMaruyamaSampler(steps=5, diffusion=0.0).sample(Gaussian(STD), start)
    torch.testing.assert_close(sample, EulerSampler(steps=5).sample(Gaussian(STD), start))


@pytest.mark.parametrize("steps", [2, 7])
def test_euler_maruyama_is_the_released_sampler_of_sit(steps: int) -> None:
    """The defaults with a last step of the mean against SiT's scheme, written with data at time 1 as there: ``steps``
    times from 0 to 0.96, ``drift + w score`` and noise ``sqrt(2 w dt)`` with w = sigma, and the mean from 0.96 to 1."""
    start = torch.randn(steps, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    randomness, model = Impulses(seed=0, step=0, positions=range(steps)), Gaussian(STD)
    grid = torch.linspace(0, 0.96, steps, dtype=torch.float64)

    def drift(x: Tensor, s: Tensor) -> Tensor:
        sigma = 1 - s
        velocity = -model(x, sigma.expand(len(x)), None)
        score = -x / (s**2 * STD**2 + sigma**2)
        return velocity + sigma * score

    expected = start
    for index, s in enumerate(grid[:-1]):
        dt = grid[1] - grid[0]
        noise = randomness.normal(f"sampler-{index}", (1, 2, 2))
        expected = expected + drift(expected, s) * dt + (2 * (1 - s) * dt).sqrt() * noise
    expected = expected + drift(expected, grid[-1]) * 0.04
    sampler = SamplerSpec.model_validate({"kind": "euler-maruyama", "steps": steps, "last_step": "mean"})
    sample = sampler.build(BuildContext()).sample(model, start, None, randomness)
    torch.testing.assert_close(sample, expected)


def test_a_last_step_size_without_its_step_is_refused() -> None:
    """The message names both settings."""
    with pytest.raises(ValidationError, match=r"last_step_size has no effect with last_step 'ode'"):
        SamplerSpec.model_validate({"kind": "euler-maruyama", "last_step_size": 0.1})


@pytest.mark.parametrize("sampler", [EulerMaruyamaSampler(steps=4), DDIMSampler(steps=4, eta=1.0)])
def test_a_stochastic_sample_depends_on_its_number_alone(sampler: Sampler, noise: Callable[..., Tensor]) -> None:
    """Samples 2 and 3 made alone against the same of a batch of four; another seed gives others."""
    start = noise(4, 1, 2, 2)
    whole = sampler.sample(Gaussian(STD), start, None, BatchRandomness(seed=5, step=0, positions=range(4)))
    part = sampler.sample(Gaussian(STD), start[2:], None, BatchRandomness(seed=5, step=0, positions=[2, 3]))
    torch.testing.assert_close(part, whole[2:])
    other = sampler.sample(Gaussian(STD), start, None, BatchRandomness(seed=6, step=0, positions=range(4)))
    assert (other - whole).abs().max() > 1e-3


def test_one_step_of_any_sampler_jumps_to_the_estimate_of_the_data(noise: Callable[..., Tensor]) -> None:
    """A single step from t = 1 against ``E[z | z_1]``, which is 0 for a Gaussian around 0."""
    start = noise(2, 1, 2, 2, dtype=torch.float64)
    for sampler in (EulerSampler, HeunSampler, EulerMaruyamaSampler, DDIMSampler, DPMSolverSampler):
        torch.testing.assert_close(sampler(steps=1).sample(Gaussian(STD), start), torch.zeros_like(start))
