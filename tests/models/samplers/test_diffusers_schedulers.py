"""Our samplers and schedule held against diffusers' schedulers, at equal noise predictions and equal added noise."""

from collections.abc import Callable, Sequence

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from pydantic import ValidationError
from torch import Tensor

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.linear_betas import LinearBetas
from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.contracts.velocity_model import VelocityModel
from diffusability.core.errors import SpecError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.specs.components import SamplerSpec
from diffusability.models.objectives.ddpm import noised
from diffusability.models.objectives.ddpm_variance import learned_log_variance
from diffusability.models.samplers.ddim import DDIMSampler
from diffusability.models.samplers.dpm_solver import DPMSolverSampler

BETAS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
DDPM = Parametrisation(prediction="noise", betas=LinearBetas())


class SomeNoise(Denoiser):
    """A smooth function of latents and time that stands for a noise prediction."""

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        return torch.tanh(latents) * (0.5 + time.view(-1, 1, 1, 1)) + 0.1


class At(VelocityModel):
    """Sampling at given training steps."""

    def __init__(self, steps: Sequence[int]) -> None:
        super().__init__(SomeNoise(), DDPM)
        self.steps = list(steps)

    def start(self, noise: Tensor) -> Tensor:
        share = LinearBetas().alphas_bar[self.steps[0]]
        return noise / (share.sqrt() + (1 - share).sqrt())

    def times(self, steps: int, shift: float = 1.0) -> list[float]:
        return [*LinearBetas().path_times[self.steps].tolist(), 0.0]


class Listed(BatchRandomness):
    """The noise of a seed for each step."""

    def normal(self, name: str, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        return step_noise(int(name.rpartition("-")[2]), (len(self.positions), *shape))


def step_noise(step: int, shape: Sequence[int]) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def predicted(latents: Tensor, step: int) -> Tensor:
    return SomeNoise()(latents, torch.full((len(latents),), step / 1000, dtype=torch.float64), None)


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_ddim_equals_diffusers(eta: float, noise: Callable[..., Tensor]) -> None:
    """A trajectory of 20 steps against DDIMScheduler's."""
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading")
    scheduler.set_timesteps(20)
    latents = noise(2, 3, 4, 4, dtype=torch.float64)
    sample = DDIMSampler(steps=20, eta=eta).sample(
        At(scheduler.timesteps.tolist()), latents, None, Listed(seed=0, step=0, positions=range(2))
    )
    for index, step in enumerate(scheduler.timesteps.tolist()):
        latents = scheduler.step(
            predicted(latents, step), step, latents, eta=eta, variance_noise=step_noise(index, latents.shape)
        ).prev_sample
    torch.testing.assert_close(sample, latents, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", [999, 500, 2, 1])
def test_ddim_with_eta_one_takes_the_steps_of_ddpm(step: int, noise: Callable[..., Tensor]) -> None:
    """One ancestral step from k to k - 1 against DDPMScheduler's with its posterior's variance, brought to the path."""
    scheduler = DDPMScheduler(**BETAS, variance_type="fixed_small", clip_sample=False)
    latents = noise(2, 3, 4, 4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    expected = scheduler.step(predicted(latents, step), step, latents, generator=generator).prev_sample

    class OneStep(At):
        def times(self, steps: int, shift: float = 1.0) -> list[float]:
            return LinearBetas().path_times[self.steps].tolist()

    sample = DDIMSampler(steps=1, eta=1.0).sample(
        OneStep([step, step - 1]), latents, None, Listed(seed=0, step=0, positions=range(2))
    )
    share = LinearBetas().alphas_bar[step - 1]
    torch.testing.assert_close(sample * (share.sqrt() + (1 - share).sqrt()), expected, rtol=1e-4, atol=1e-4)


class SomeNoiseAndVariance(SomeNoise):
    """The same, and a share for the variance."""

    learn_sigma = True

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        return torch.cat([super().forward(latents, time, labels), torch.sin(3 * latents)], dim=1)


@pytest.mark.parametrize("step", [999, 500, 2])
def test_ancestral_steps_with_learned_variance_equal_diffusers(step: int, noise: Callable[..., Tensor]) -> None:
    """One ancestral step from k to k - 1 against DDPMScheduler's with a learned range of variance."""
    scheduler = DDPMScheduler(**BETAS, variance_type="learned_range", clip_sample=False)
    latents = noise(2, 3, 4, 4, dtype=torch.float64)
    output = torch.cat([predicted(latents, step), torch.sin(3 * latents)], dim=1)
    expected = scheduler.step(output, step, latents, generator=torch.Generator().manual_seed(0)).prev_sample

    class OneStep(At):
        def times(self, steps: int, shift: float = 1.0) -> list[float]:
            return LinearBetas().path_times[self.steps].tolist()

    model = OneStep([step, step - 1])
    model.denoiser = SomeNoiseAndVariance()
    sampler = DDIMSampler(steps=1, eta=1.0, learned_variance=True)
    sample = sampler.sample(model, latents, None, Listed(seed=0, step=0, positions=range(2)))
    share = LinearBetas().alphas_bar[step - 1]
    torch.testing.assert_close(sample * (share.sqrt() + (1 - share).sqrt()), expected, rtol=1e-3, atol=1e-4)


def test_learned_variance_of_a_model_without_is_refused(noise: Callable[..., Tensor]) -> None:
    """The message names the setting of the sampler and that of the model; a spec with another eta is refused too."""
    with pytest.raises(SpecError, match=r"learned_variance needs .* this SomeNoise has learn_sigma false"):
        DDIMSampler(steps=2, eta=1.0, learned_variance=True).sample(At([5, 1]), noise(1, 1, 2, 2))
    with pytest.raises(ValidationError, match=r"eta is 0\.5"):
        SamplerSpec.model_validate({"kind": "ddim", "eta": 0.5, "learned_variance": True})


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers
@pytest.mark.parametrize("steps", [5, 20])
def test_dpm_solver_equals_diffusers(steps: int, noise: Callable[..., Tensor]) -> None:
    """A trajectory against DPMSolverMultistepScheduler's (2M, midpoint, to zero noise)."""
    scheduler = DPMSolverMultistepScheduler(
        **BETAS, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="linspace", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    latents = noise(2, 3, 4, 4, dtype=torch.float64)
    sample = DPMSolverSampler(steps=steps).sample(At(scheduler.timesteps.tolist()), latents)
    for step in scheduler.timesteps:
        latents = scheduler.step(predicted(latents, int(step)), step, latents).prev_sample
    torch.testing.assert_close(sample, latents, rtol=1e-4, atol=1e-4)


def test_the_schedule_and_its_noising_equal_diffusers(noise: Callable[..., Tensor]) -> None:
    """Betas, shares and noised latents at eight steps against DDPMScheduler's, for images and clips."""
    scheduler = DDPMScheduler(**BETAS)
    schedule = LinearBetas()
    torch.testing.assert_close(schedule.betas.float(), scheduler.betas)
    torch.testing.assert_close(schedule.alphas_bar.float(), scheduler.alphas_cumprod)
    steps = torch.tensor([0, 1, 10, 100, 500, 900, 998, 999])
    for shape in ((8, 3, 4, 4), (8, 3, 2, 4, 4)):
        latents, eps = noise(*shape), noise(*shape, seed=1)
        torch.testing.assert_close(noised(schedule, latents, eps, steps), scheduler.add_noise(latents, eps, steps))


@pytest.mark.parametrize("step", [1, 50, 999])
def test_learned_variances_equal_diffusers(step: int, noise: Callable[..., Tensor]) -> None:
    """The log variance of a predicted fraction against DDPMScheduler's of type learned_range."""
    scheduler = DDPMScheduler(**BETAS, variance_type="learned_range")
    fraction = noise(2, 3, 4, 4).clamp(-1, 1)
    expected = scheduler._get_variance(step, predicted_variance=fraction)
    torch.testing.assert_close(
        learned_log_variance(LinearBetas(), torch.full((2,), step), fraction), expected, rtol=1e-4, atol=1e-4
    )
