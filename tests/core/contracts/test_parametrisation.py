import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.linear_betas import LinearBetas
from diffusability.core.contracts.parametrisation import PREDICTIONS, Parametrisation, data_of, velocity_of
from diffusability.core.contracts.velocity_model import VelocityModel
from diffusability.core.errors import CheckpointError, SpecError

SHAPES = ((2, 3, 4, 4), (2, 3, 2, 4, 4))
DDPM = Parametrisation(prediction="noise", betas=LinearBetas())


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.floats(0.01, 0.99), st.sampled_from(PREDICTIONS), st.sampled_from(SHAPES))
def test_each_prediction_determines_the_others(time: float, prediction: str, shape: tuple[int, ...]) -> None:
    """True velocity, data and noise against those that follow from any one of them, of images and clips."""
    data, noise = normal(*shape), normal(*shape, seed=1)
    times = torch.tensor([time, 1 - time], dtype=torch.float64)
    t = times.view(-1, *[1] * (len(shape) - 1))
    latents = (1 - t) * data + t * noise
    known = {"velocity": noise - data, "data": data, "noise": noise}
    velocity = velocity_of(prediction, known[prediction], latents, times)
    torch.testing.assert_close(velocity, noise - data)
    torch.testing.assert_close(data_of(velocity, latents, times), data)


def test_a_ddpm_step_lies_on_the_path_at_its_signal_to_noise_ratio() -> None:
    """``path_times`` against ``sigma / (alpha + sigma)``, rising; ``step_at`` is its inverse, also between steps."""
    schedule = LinearBetas()
    shares = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    sigma = (1 - shares).sqrt()
    torch.testing.assert_close(schedule.path_times, sigma / (shares.sqrt() + sigma))
    assert bool((schedule.path_times.diff() > 0).all())
    torch.testing.assert_close(schedule.step_at(schedule.path_times), torch.arange(1000, dtype=torch.float64))
    between = schedule.step_at((schedule.path_times[10:11] + schedule.path_times[11:12]) / 2)
    assert 10 < between.item() < 11
    assert schedule.step_at(torch.tensor([0.0, 1.0])).tolist() == [0, 999]


class Record(Denoiser):
    """Predicts given noise, and remembers what it saw."""

    def __init__(self, noise: Tensor, learn_sigma: bool = False) -> None:
        super().__init__()
        self.noise = noise
        self.learn_sigma = learn_sigma

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        self.seen = latents, time
        return torch.cat([self.noise, 7 + self.noise], dim=1) if self.learn_sigma else self.noise


@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("step", [0, 1, 500, 999])
def test_a_ddpm_denoiser_sees_its_own_coordinates(step: int, learn_sigma: bool) -> None:
    """What it sees at a step's place on the path against ``a z + s eps`` and ``k / 1000``; the velocity is ``eps - z``.

    A learned variance is left out.
    """
    schedule = LinearBetas()
    data, noise = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    share = schedule.alphas_bar[step]
    time = schedule.path_times[step].expand(2)
    denoiser = Record(noise, learn_sigma)
    t = time.view(-1, 1, 1, 1)
    velocity = VelocityModel(denoiser, DDPM)((1 - t) * data + t * noise, time, None)
    torch.testing.assert_close(denoiser.seen[0], share.sqrt() * data + (1 - share).sqrt() * noise)
    torch.testing.assert_close(denoiser.seen[1], torch.full((2,), step / 1000, dtype=torch.float64))
    torch.testing.assert_close(velocity, noise - data, rtol=1e-6, atol=1e-6)


def test_sampling_a_ddpm_starts_at_unit_variance() -> None:
    """What the denoiser sees at the first time against the noise itself."""
    noise = normal(1, 2, 3, 3)
    denoiser = Record(noise)
    model = VelocityModel(denoiser, DDPM)
    start = model.start(noise)
    model(start, torch.tensor([model.times(10)[0]], dtype=torch.float64), None)
    torch.testing.assert_close(denoiser.seen[0], noise)


def test_times_fall_from_the_start_to_zero() -> None:
    """Times of each parametrisation against equal steps, training steps, and the shift written out."""
    assert VelocityModel(Record(normal(1))).times(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert VelocityModel(Record(normal(1))).times(2, shift=3.0) == [1.0, 0.75, 0.0]
    noise_model = VelocityModel(Record(normal(1)), Parametrisation(prediction="noise"))
    assert noise_model.times(2) == [0.99, 0.495, 0.0]
    ddpm = VelocityModel(Record(normal(1)), DDPM)
    path = LinearBetas().path_times
    assert ddpm.times(3) == [path[999].item(), path[500].item(), path[0].item(), 0.0]
    assert len(ddpm.times(1000)) == 1001
    with pytest.raises(SpecError, match=r"1001 sampling steps .* of the 1000 training steps"):
        ddpm.times(1001)


@pytest.mark.parametrize("parametrisation", [Parametrisation(), Parametrisation(prediction="data"), DDPM])
def test_a_parametrisation_survives_its_config(parametrisation: Parametrisation) -> None:
    """What is read against what was written."""
    assert Parametrisation.from_config(parametrisation.config()) == parametrisation


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prediction": "score"}, "unknown prediction 'score'"),
        ({"prediction": "data", "betas": {"first": 1e-4, "last": 0.02, "num_steps": 1000}}, "predicts 'noise'"),
        ({"prediction": "noise", "betas": {"first": 0.5, "last": 0.02}}, "first <= last"),
        ({}, "prediction"),
    ],
)
def test_a_broken_config_is_refused(config: dict[str, object], message: str) -> None:
    """The message says what is wrong with it."""
    with pytest.raises(CheckpointError, match=message):
        Parametrisation.from_config(config)
