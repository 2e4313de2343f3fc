"""The spectral story of a denoiser, on Gaussian latents whose best denoiser is known in closed form."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.errors import DataError
from diffusability.core.numerics.dct import dct2, idct2, zigzag_order
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import DenoiserSpec, EvaluatorSpec
from diffusability.eval.predictors.viv import trajectory_curvature
from diffusability.eval.specs.spectra import DenoisingSpectrumSpec, ErrorAccumulationSpec, SamplingPathSpec
from diffusability.eval.spectra.coefficient_moments import gaussian_divergence
from diffusability.eval.spectra.denoising_error import half_resolved_time, relative_error, wiener_error
from diffusability.eval.spectra.sampling_path import path_efficiency, path_straightness

SIZE = 8


def variances(channels: int = 2) -> Tensor:
    """Variance of each coefficient of an 8x8 map: falling with frequency, the second channel's more slowly."""
    u, v = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return torch.stack([4.0 / (1 + u + v) ** (2 - channel) for channel in range(channels)]).double()


class Wiener(Denoiser):
    """The best velocity for Gaussian latents with these variances of DCT coefficients, times a factor."""

    def __init__(self, variance: Tensor, factor: float = 1.0) -> None:
        super().__init__()
        self.variance = variance
        self.factor = factor

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        t = time.view(-1, 1, 1, 1).double()
        spectrum = dct2(latents.double())
        scale = (t - (1 - t) * self.variance) / ((1 - t) ** 2 * self.variance + t**2)
        return (self.factor * idct2(scale * spectrum)).to(latents.dtype)


def latents_of(variance: Tensor, count: int, seed: int = 0) -> Tensor:
    noise = torch.randn(count, *variance.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return idct2(variance.sqrt() * noise).float()


def model_of(denoiser: Denoiser, channels: int = 2) -> DiffusionModel:
    return DiffusionModel(
        denoiser=denoiser,
        normalizer=LatentNormalizer.identity(channels),
        latent_shape=(channels, SIZE, SIZE),
        num_classes=denoiser.num_classes,
        spec=DenoiserSpec.model_construct(kind="wiener"),
        parametrisation=Parametrisation(),
    )


def evaluated(
    spec: EvaluatorSpec, model: DiffusionModel, latents: Tensor, sizes: tuple[int, ...] | None = None
) -> dict[str, EvalResult]:
    evaluator = spec.build(BuildContext())
    start = 0
    for size in sizes or (len(latents),):
        indices = range(start, start + size)
        evaluator.update(EvaluationBatch(indices=indices, latents=latents[start : start + size], diffusion_model=model))
        start += size
    return {result.metric: result for result in evaluator.compute()}


def zigzag(values: Tensor) -> Tensor:
    return values.flatten(1)[:, zigzag_order(SIZE)]


def test_the_error_of_the_best_denoiser_is_wieners() -> None:
    """The evaluator on the closed-form denoiser against ``t^2 / ((1 - t)^2 S + t^2)`` with the true variances."""
    variance = variances()
    spec = DenoisingSpectrumSpec(times=(0.1, 0.3, 0.5, 0.7, 0.9))
    results = evaluated(spec, model_of(Wiener(variance)), latents_of(variance, 600))
    exact = wiener_error(zigzag(variance), torch.tensor(spec.times, dtype=torch.float64))
    curve = results["denoising_error_curve"].curve
    assert curve is not None
    assert curve.x == list(spec.times)
    torch.testing.assert_close(torch.tensor(curve.y), exact.mean((1, 2)).float(), rtol=0.03, atol=0.005)
    high = torch.arange(64) >= 36
    assert results["denoising_error_high"].value == pytest.approx(exact[:, :, high].mean().item(), rel=0.03)
    assert results["denoising_excess"].value == pytest.approx(1, abs=0.03)
    resolved = results["resolved_time_curve"].curve
    assert resolved is not None
    exact_times = half_resolved_time(exact, torch.tensor(spec.times, dtype=torch.float64))
    torch.testing.assert_close(torch.tensor(resolved.y), exact_times.mean(0).float(), rtol=0, atol=0.04)
    assert resolved.y[0] > resolved.y[10] > resolved.y[63]


def test_a_worse_denoiser_has_excess_error() -> None:
    """The closed form, with its velocity scaled, against the closed form."""
    variance = variances()
    latents = latents_of(variance, 200)
    best, worse = (
        evaluated(DenoisingSpectrumSpec(), model_of(Wiener(variance, factor)), latents) for factor in (1.0, 0.7)
    )
    assert worse["denoising_excess"].value > best["denoising_excess"].value + 0.1


def test_half_resolved_times_are_crossings() -> None:
    """A frequency with S is half resolved at ``sqrt(S) / (1 + sqrt(S))`` (SNR 1), on fine times; ends are 0 and 1."""
    times = torch.linspace(0.001, 0.999, 500, dtype=torch.float64)
    energy = torch.tensor([[4.0, 1.0, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(
        half_resolved_time(wiener_error(energy, times), times), energy.sqrt() / (1 + energy.sqrt()), rtol=0, atol=1e-3
    )
    flat = torch.tensor([[[0.9, 0.1]], [[0.9, 0.1]]], dtype=torch.float64)
    assert half_resolved_time(flat, torch.tensor([0.2, 0.8])).tolist() == [[0.0, 1.0]]
    assert relative_error(torch.ones(1, 1, 2), torch.tensor([[0.0, 2.0]])).tolist() == [[[0.0, 0.5]]]


@pytest.mark.parametrize("spec", [DenoisingSpectrumSpec(times=(0.2, 0.8)), ErrorAccumulationSpec(steps=3)])
def test_batches_and_ranks_do_not_change_it(spec: EvaluatorSpec) -> None:
    """One batch against three, and against two evaluators that are merged; an evaluator that saw nothing merges too."""
    variance = variances()
    model, latents = model_of(Wiener(variance)), latents_of(variance, 12)
    whole = evaluated(spec, model, latents)
    _assert_same(evaluated(spec, model, latents, (5, 4, 3)), whole)
    first, second, idle = (spec.build(BuildContext()) for _ in range(3))
    for evaluator, indices in ((first, range(5)), (second, range(5, 12))):
        part = latents[indices.start : indices.stop]
        evaluator.update(EvaluationBatch(indices=indices, latents=part, diffusion_model=model))
    for other in (second, idle):
        first.merge(other.state())
    idle.merge(first.state())
    for merged in (first, idle):
        _assert_same({result.metric: result for result in merged.compute()}, whole)


def _assert_same(results: dict[str, EvalResult], expected: dict[str, EvalResult]) -> None:
    """The same metrics of as many samples, and equal numbers and curves."""
    assert {metric: result.num_samples for metric, result in results.items()} == dict.fromkeys(expected, 12)
    values = {metric: result.value for metric, result in expected.items() if result.curve is None}
    assert {metric: results[metric].value for metric in values} == pytest.approx(values, rel=1e-4)
    for metric in expected.keys() - values.keys():
        curves = results[metric].curve, expected[metric].curve
        assert curves[0] is not None
        assert curves[1] is not None
        assert curves[0].y == pytest.approx(curves[1].y, rel=1e-3, abs=1e-6)


def test_accumulated_errors_are_those_of_the_exact_recursion() -> None:
    """Euler on the closed-form velocity scales coefficients: variances and divergences follow exactly, step by step."""
    variance = variances()
    spec = ErrorAccumulationSpec(steps=6)
    results = evaluated(spec, model_of(Wiener(variance)), latents_of(variance, 3000))
    times = [1 - step / 6 for step in range(7)]
    made = torch.ones_like(variance)
    cumulative, modular = [], []
    for time, after in pairwise(times):
        true, next_true = ((1 - t) ** 2 * variance + t**2 for t in (time, after))
        factor = (1 + (after - time) * (time - (1 - time) * variance) / true) ** 2
        made = made * factor
        zero = torch.zeros_like(variance)
        cumulative.append(gaussian_divergence(zero, made, zero, next_true).mean().item())
        modular.append(gaussian_divergence(zero, factor * true, zero, next_true).mean().item())
    curve = results["cumulative_error_curve"].curve
    assert curve is not None
    assert curve.x == pytest.approx(times[1:])
    floor = 2 / 3000
    assert results["cumulative_error"].spec["floor_nats"] == pytest.approx(floor)
    assert curve.y == pytest.approx(cumulative, rel=0.05, abs=1.3 * floor)
    steps = results["modular_error_curve"].curve
    assert steps is not None
    assert steps.y == pytest.approx(modular, rel=0.1, abs=floor / 2)
    assert results["cumulative_error"].value == pytest.approx(cumulative[-1], rel=0.05)
    assert results["cumulative_error"].unit == "nats"
    amplification = cumulative[-1] ** 0.5 / sum(error**0.5 for error in modular)
    assert results["error_amplification"].value == pytest.approx(amplification, rel=0.05)


def test_the_divergence_is_that_of_torch() -> None:
    """Divergences of Gaussians against torch.distributions."""
    mean, true_mean = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.5, 1.0, 2.0])
    variance, true_variance = torch.tensor([1.0, 0.5, 3.0]), torch.tensor([2.0, 0.5, 1.0])
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, variance.sqrt()), torch.distributions.Normal(true_mean, true_variance.sqrt())
    )
    torch.testing.assert_close(gaussian_divergence(mean, variance, true_mean, true_variance), expected)


@pytest.mark.parametrize("spec", [DenoisingSpectrumSpec(times=(0.2, 0.8)), ErrorAccumulationSpec(steps=2)])
def test_latents_of_another_shape_are_refused(spec: EvaluatorSpec) -> None:
    """The message names both shapes; an evaluator that saw nothing says so."""
    model = model_of(Wiener(variances()))
    with pytest.raises(DataError, match=r"\(2, 16, 16\) do not fit a denoiser of latents of shape \(2, 8, 8\)"):
        evaluated(spec, model, torch.zeros(1, 2, 16, 16))
    with pytest.raises(DataError, match="needs at least one"):
        spec.build(BuildContext()).compute()


def test_clips_are_frames(noise: Callable[..., Tensor]) -> None:
    """Latents of clips: each frame counts as an image would."""

    class Zero(Denoiser):
        def forward(
            self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
        ) -> Tensor:
            return torch.zeros_like(latents)

    model = DiffusionModel(
        denoiser=Zero(),
        normalizer=LatentNormalizer.identity(2),
        latent_shape=(2, 3, SIZE, SIZE),
        num_classes=None,
        spec=DenoiserSpec.model_construct(kind="zero"),
    )
    latents = noise(6, 2, 3, SIZE, SIZE)
    results = evaluated(DenoisingSpectrumSpec(times=(0.5, 0.9)), model, latents)
    # The estimate is z_t, so that the error is t^2 (|z|^2 + |eps|^2): with white data 2 t^2 relative to its energy.
    curve = results["denoising_error_curve"].curve
    assert curve is not None
    assert curve.y == pytest.approx([0.5, 1.62], rel=0.25)
    assert results["denoising_error"].num_samples == 6


def test_figures_are_drawn(tmp_path: Path) -> None:
    """Names and sizes of the files that both evaluators write."""
    variance = variances(3)
    latents = latents_of(variance, 8)
    for spec in (DenoisingSpectrumSpec(), ErrorAccumulationSpec(steps=5)):
        evaluator = spec.build(BuildContext())
        batch = EvaluationBatch(indices=range(8), latents=latents, diffusion_model=model_of(Wiener(variance), 3))
        evaluator.update(batch)
        for path in evaluator.draw(tmp_path):
            assert path.stat().st_size > 5000
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {"denoising-spectrum.png", "denoising-spectrum-channels.png", "error-accumulation.png"}


@pytest.mark.parametrize("times", [[0.5], [0.8, 0.2], [0.0, 0.5], [0.5, 1.0], [0.5, 0.5]])
def test_times_that_do_not_rise_inside_of_0_and_1_are_refused(times: list[float]) -> None:
    """The message is about the field."""
    with pytest.raises(ValidationError, match="times"):
        EvaluatorSpec.model_validate({"kind": "denoising-spectrum", "times": times})


def test_the_path_of_the_best_denoiser_is_as_straight_as_in_closed_form() -> None:
    """Straightness of the trained ODE of Gaussian latents against the closed form of their exact ODE."""
    variance = variances()
    spec = SamplingPathSpec(steps=200, num_samples=64)
    by_metric = evaluated(spec, model_of(Wiener(variance)), torch.zeros(64, 2, SIZE, SIZE), (40, 24))
    straightness, efficiency = by_metric["sampling_straightness"], by_metric["sampling_efficiency"]
    assert straightness.value == pytest.approx(trajectory_curvature(variance.flatten()), rel=0.05)
    assert straightness.spread is not None
    assert 0.5 < efficiency.value < 1
    assert efficiency.higher_is_better is True


def test_paths_of_known_shape() -> None:
    """A straight line at constant speed, one at another speed, and a right angle."""
    times = torch.linspace(1, 0, 5, dtype=torch.float64)
    along = torch.tensor([3.0, 4.0], dtype=torch.float64)
    line = times[:, None, None] * along
    assert path_straightness(line, times).tolist() == pytest.approx([0], abs=1e-12)
    assert path_efficiency(line).tolist() == pytest.approx([1])
    uneven = times[:, None, None].square() * along  # speeds 2 t in place of 1
    steps = times[:-1] ** 2 - times[1:] ** 2
    expected = (((steps / 0.25 - 1) ** 2 * 0.25).sum() * 25 / 2).item()
    assert path_straightness(uneven, times).tolist() == pytest.approx([expected])
    assert path_efficiency(uneven).tolist() == pytest.approx([1])
    corner = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 1.0]]])
    assert path_efficiency(corner).tolist() == pytest.approx([2**0.5 / 2])
