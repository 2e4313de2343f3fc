from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known_models import TwoPoints
from pydantic import ValidationError
from torch import Tensor, nn

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.objective import Batch
from diffusability.core.contracts.parametrisation import PREDICTIONS, Parametrisation
from diffusability.core.contracts.velocity_model import VelocityModel
from diffusability.core.errors import SpecError
from diffusability.core.models.saved_models import save_diffusion_model
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import ObjectiveSpec
from diffusability.models.objectives.flow_matching import FlowMatching, shifted_times
from diffusability.models.objectives.loss_weights import (
    conversion_weight,
    error_scale,
    loss_weight,
    min_snr_weight,
    sigmoid_weight,
)
from diffusability.models.specs.denoisers.dit import DIT_SIZES, DiTSize, DiTSpec
from diffusability.models.specs.objectives.flow_matching import FlowMatchingSpec

SHAPE = (2, 4, 4)


@pytest.fixture(autouse=True)
def tiny_dit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes Ti a two-layer transformer, so that these tests are fast."""
    monkeypatch.setitem(DIT_SIZES, "Ti", DiTSize(2, 32, 2))


def objective_of(denoiser: dict[str, object] | None = None, **settings: object) -> FlowMatching:
    torch.manual_seed(0)
    spec = FlowMatchingSpec(denoiser={"kind": "dit", "size": "Ti/2", **(denoiser or {})}, **settings)
    objective = spec.build(BuildContext(latent_shape=SHAPE))
    assert isinstance(objective, FlowMatching)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return objective


class Table(Denoiser):
    """A prediction that is constant in each cell of a one-dimensional latent, and free in each."""

    def __init__(self, cells: int, bound: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(cells))
        self.bound = bound

    def cell(self, latents: Tensor) -> Tensor:
        cells = len(self.values)
        return ((latents / self.bound + 1) / 2 * cells).long().clamp(0, cells - 1)

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        return self.values[self.cell(latents)]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("time", [0.3, 0.7])
def test_the_minimum_on_two_points_is_the_closed_form_velocity(time: float, prediction: str) -> None:
    """The objective's own loss, minimised exactly over a table of predictions by one Newton step, against the
    closed-form velocity of the two points, averaged over each cell.
    """
    points = torch.tensor([1.5, -1.0]).view(2, 1, 1, 1)
    count = 6_000
    table = Table(cells=60, bound=4.0)
    model = DiffusionModel(
        denoiser=table,
        normalizer=LatentNormalizer.identity(1),
        latent_shape=(1, 1, 1),
        num_classes=None,
        spec=DiTSpec(),
        parametrisation=Parametrisation(prediction=prediction),
    )
    objective = FlowMatching(
        model=model,
        label_dropout=0.0,
        draw_times=lambda randomness: torch.full((len(randomness.positions),), time),
        prediction=prediction,
    )
    data = points[torch.arange(count) % 2]
    batch = Batch(data=data, labels=None, randomness=BatchRandomness(seed=0, step=0, positions=range(count)))
    (loss,) = objective(batch).losses.values()
    (slope,) = torch.autograd.grad(loss, table.values)
    noise = batch.randomness.normal("noise", (1, 1, 1))
    noisy = (1 - time) * data + time * noise
    cells = table.cell(noisy).flatten()
    seen = torch.bincount(cells, minlength=60)
    with torch.no_grad():
        table.values.copy_(-slope / (2 * seen.clamp_min(1) / count))  # the loss is quadratic, with this curvature
    (lowest,) = objective(batch).losses.values()
    (left,) = torch.autograd.grad(lowest, table.values)
    assert left.abs().max() < 1e-5

    times = torch.full((count,), time)
    learned = VelocityModel(table, Parametrisation(prediction=prediction))(noisy, times, None).flatten().detach()
    exact = TwoPoints(points)(noisy, times, None).flatten()
    for cell in (seen > 120).nonzero().flatten().tolist():
        inside = cells == cell
        mistake = (learned[inside] - exact[inside]).mean().item()
        # The table learns a mean of so many noisy targets, whose spread is at most that of the data over t.
        assert abs(mistake) < 5 * (2.5 / time) / seen[cell].item() ** 0.5


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("loss_on", PREDICTIONS)
def test_losses_on_another_quantity_equal_that_quantitys_error(
    prediction: str, loss_on: str, batch_of: Callable[..., Batch], noise: Callable[..., Tensor]
) -> None:
    """The loss against the squared error of velocity, data or noise, converted from the prediction by hand; times are
    kept away from the ends, where the weight is bounded.
    """
    objective = objective_of(prediction=prediction, loss_on=loss_on, time_std=0.5)
    batch = batch_of(noise(8, *SHAPE))
    output = objective(batch)
    assert list(output.losses) == [loss_on]
    eps = batch.randomness.normal("noise", SHAPE)
    t = output.time.view(-1, 1, 1, 1)
    z_t = (1 - t) * batch.data + t * eps
    velocity = {
        "velocity": output.prediction,
        "data": (z_t - output.prediction) / t,
        "noise": (output.prediction - z_t) / (1 - t),
    }[prediction]
    predicted = {"velocity": velocity, "data": z_t - t * velocity, "noise": z_t + (1 - t) * velocity}[loss_on]
    true = {"velocity": eps - batch.data, "data": batch.data, "noise": eps}[loss_on]
    torch.testing.assert_close(output.losses[loss_on], (predicted - true).square().mean(), rtol=1e-4, atol=1e-5)


@given(st.floats(0.06, 0.94))
def test_weights_agree_with_the_signal_to_noise_ratio(time: float) -> None:
    """Weights against ``SNR = ((1 - t) / t)^2``: the error of the data is SNR^-1 that of the noise, and so on."""
    t = torch.tensor([time], dtype=torch.float64)
    snr = ((1 - t) / t) ** 2
    torch.testing.assert_close(conversion_weight("noise", "data", t), 1 / snr)
    torch.testing.assert_close(conversion_weight("data", "noise", t), snr)
    torch.testing.assert_close(conversion_weight("data", "velocity", t), 1 / t**2)
    torch.testing.assert_close(min_snr_weight(t, 5.0), snr.clamp_max(5.0))
    torch.testing.assert_close(sigmoid_weight(t, -1.0), 1 / (1 + snr * torch.e))


@pytest.mark.parametrize(("weighting", "strength"), [("min-snr", 5.0), ("sigmoid", 0.0)])
def test_a_weighting_does_not_depend_on_what_is_predicted(
    weighting: str, strength: float, batch_of: Callable[..., Batch], noise: Callable[..., Tensor]
) -> None:
    """The weight of an equal error of the velocity, expressed as velocity, data and noise: the same."""
    t = torch.linspace(0.1, 0.9, 5)
    weights = [
        loss_weight(prediction, prediction, weighting, strength, t) * error_scale(prediction, t) ** 2
        for prediction in PREDICTIONS
    ]
    torch.testing.assert_close(weights[0], weights[1])
    torch.testing.assert_close(weights[0], weights[2])
    output = objective_of(weighting=weighting)(batch_of(noise(4, *SHAPE)))
    assert list(output.losses) == [weighting]


def test_weights_stay_finite_at_the_ends_of_time() -> None:
    """All weights at t = 0 and t = 1."""
    ends = torch.tensor([0.0, 1.0])
    for weighting in ("none", "min-snr", "sigmoid"):
        for prediction in PREDICTIONS:
            for loss_on in PREDICTIONS:
                assert loss_weight(prediction, loss_on, weighting, 5.0, ends).isfinite().all()


def test_shifted_times_follow_the_formula(batch_of: Callable[..., Batch], noise: Callable[..., Tensor]) -> None:
    """Shift 3 takes 0.5 to 0.75, keeps the ends, and is what the objective draws."""
    assert shifted_times(torch.tensor([0.0, 0.5, 1.0]), 3.0).tolist() == [0.0, 0.75, 1.0]
    batch = batch_of(noise(8, *SHAPE))
    plain, shifted = (objective_of(time_distribution="uniform", time_shift=shift)(batch).time for shift in (1.0, 3.0))
    torch.testing.assert_close(shifted, 3 * plain / (1 + 2 * plain))


def test_the_automatic_shift_follows_the_size_of_the_latents(
    batch_of: Callable[..., Batch], noise: Callable[..., Tensor]
) -> None:
    """``sqrt(m / base)``, 6.93 for RAE's 16 x 16 x 768 latents; drawn times by the formula; a base alone is refused."""
    settings = {"time_distribution": "uniform", "time_shift": "auto", "time_shift_base": 2.0}
    batch = batch_of(noise(8, *SHAPE))
    plain, shifted = (objective_of(time_distribution="uniform")(batch).time, objective_of(**settings)(batch).time)
    torch.testing.assert_close(shifted, 4 * plain / (1 + 3 * plain))
    spec = FlowMatchingSpec(denoiser={"kind": "dit"}, time_shift="auto")
    assert spec.shift((768, 16, 16)) == pytest.approx((768 * 16 * 16 / 4096) ** 0.5)
    remarks = spec.remarks(BuildContext(latent_shape=(768, 16, 16)))
    assert remarks == ["time_shift auto is 6.928, sqrt(768 x 16 x 16 / 4096)"]
    assert spec.remarks(BuildContext()) == []
    with pytest.raises(ValidationError, match=r"time_shift_base is for time_shift auto, and time_shift is 1\.0"):
        FlowMatchingSpec(denoiser={"kind": "dit"}, time_shift_base=100.0)
    with pytest.raises(ValidationError, match="time_shift is 'automatic'; expected a number greater than 0, or auto"):
        FlowMatchingSpec(denoiser={"kind": "dit"}, time_shift="automatic")


def test_self_conditioning_sees_its_own_estimate_at_half_of_the_steps(
    batch_of: Callable[..., Batch], noise: Callable[..., Tensor]
) -> None:
    """Earlier estimates over 40 steps: none, or ``z_t - t v`` of a first pass without estimate, without gradients."""
    objective = objective_of({"self_conditioning": True})
    seen: list[tuple[Tensor, ...]] = []
    objective.denoiser.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    conditioned = 0
    for step in range(40):
        seen.clear()
        output = objective(batch_of(noise(2, *SHAPE), step=step))
        latents, time, *_ = seen[-1]
        if len(seen) == 2:
            conditioned += 1
            estimate = seen[-1][3]
            assert not estimate.requires_grad
            with torch.no_grad():
                first = objective.denoiser(latents, time, None)
            torch.testing.assert_close(estimate, latents - time.view(-1, 1, 1, 1) * first)
        else:
            assert len(seen[-1]) == 3
        assert output.losses["velocity"].requires_grad
    assert 10 <= conditioned <= 30


def test_self_conditioning_keeps_its_gradients_under_autocast(
    batch_of: Callable[..., Batch], noise: Callable[..., Tensor]
) -> None:
    """Which parameters get a gradient in bf16 autocast at a step with a first estimate, against one without."""
    objective = objective_of({"self_conditioning": True})
    with_gradient = []
    for step in range(8):
        objective.zero_grad()
        calls: list[int] = []
        hook = objective.denoiser.register_forward_pre_hook(lambda module, inputs, calls=calls: calls.append(1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = objective(batch_of(noise(2, *SHAPE), step=step)).losses["velocity"]
        loss.backward()
        hook.remove()
        names = {name for name, parameter in objective.named_parameters() if parameter.grad is not None}
        with_gradient.append((len(calls), names))
    assert {calls for calls, _ in with_gradient} == {1, 2}
    assert len({frozenset(names) for _, names in with_gradient}) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prediction": "score"}, "velocity"),
        ({"weighting_strength": 3}, "is of use with a weighting only"),
        ({"weighting": "min-snr", "loss_on": "data"}, "says itself whose error it weighs"),
        ({"weighting": "min-snr", "weighting_strength": 0}, r"gamma of min-snr is 0\.0; expected a positive number"),
        ({"time_shift": 0}, "greater than 0"),
        ({"denoiser": {"kind": "dit", "learn_sigma": True}}, "flow matching learns no variance"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    """What a spec says against a sentence that names it."""
    with pytest.raises(ValidationError, match=message):
        ObjectiveSpec.model_validate({"kind": "flow-matching", "denoiser": {"kind": "dit"}, **settings})


def test_an_earlier_model_of_another_prediction_is_refused(tmp_path: Path) -> None:
    """A saved data prediction as the start of a velocity objective: both are named."""
    objective = objective_of(prediction="data")
    save_diffusion_model(objective.diffusion_model(), tmp_path / "model")
    spec = FlowMatchingSpec(denoiser={"kind": "saved", "path": str(tmp_path / "model")})
    with pytest.raises(SpecError, match=r"trained with Parametrisation\(prediction='data'.*prediction='velocity'"):
        spec.build(BuildContext(latent_shape=SHAPE))
    again = FlowMatchingSpec(denoiser={"kind": "saved", "path": str(tmp_path / "model")}, prediction="data")
    restored = again.build(BuildContext(latent_shape=SHAPE))
    for name, value in objective.state_dict().items():
        torch.testing.assert_close(restored.state_dict()[name], value)
