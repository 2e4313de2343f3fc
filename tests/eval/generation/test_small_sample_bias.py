"""How much of a Frechet distance is due to few images."""

import pytest
import torch

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.stages.evaluation_results import results_json
from diffusability.eval.generation.frechet import frechet_distance
from diffusability.eval.generation.small_sample_bias import SmallSampleBias, small_sample_bias
from diffusability.eval.streaming.gaussian_statistics import GaussianStatistics
from diffusability.eval.streaming.grouped_statistics import GroupedStatistics

FEATURES = 64


def distance(first: GaussianStatistics, second: GaussianStatistics) -> float:
    """The Frechet distance of two sets."""
    return frechet_distance(first.mean, first.covariance(), second.mean, second.covariance())


def drawn(count: int, seed: int, decay: float, gaussian: bool = True) -> GroupedStatistics:
    """Features of a spectrum that falls as a power of the index, as networks' does."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.arange(1, FEATURES + 1).double() ** (-decay / 2)
    noise = torch.randn(count, FEATURES, generator=generator, dtype=torch.float64)
    features = (noise if gaussian else noise.sign() * noise.square()) * scales
    statistics = GroupedStatistics(4)
    statistics.update(features, range(count))
    return statistics


@pytest.mark.parametrize("decay", [0.0, 0.8, 1.2])
@pytest.mark.parametrize("count", [24, 50, 75, 200])
def test_the_bias_is_what_independent_sets_are_apart(decay: float, count: int) -> None:
    """From one set, against ten pairs of independent sets of as many vectors: from 0.4 to three for each feature, as
    EfficientNet-Lite0 has with 500 to 4,000 images. The inverse bends most where there are as many vectors as features:
    a line says up to 15 % too much there."""
    sets = [drawn(count, seed, decay) for seed in range(20)]
    apart = [distance(first.whole(), second.whole()) for first, second in zip(sets[:10], sets[10:], strict=True)]
    estimates = [small_sample_bias(vectors, distance) for vectors in sets[:10]]
    biases = [bias.distance_bias(count, count) for bias in estimates if bias is not None]
    assert -0.1 < sum(biases) / sum(apart) - 1 < 0.2


def test_it_does_not_assume_gaussian_features() -> None:
    """Features with heavy tails, whose covariances scatter more, against independent sets of the same."""
    sets = [drawn(150, seed, 0.8, gaussian=False) for seed in range(40)]
    apart = (
        sum(distance(first.whole(), second.whole()) for first, second in zip(sets[:20], sets[20:], strict=True)) / 20
    )
    estimates = [small_sample_bias(vectors, distance) for vectors in sets[:20]]
    mean_bias = sum(bias.distance_bias(150, 150) for bias in estimates if bias is not None) / 20
    gaussian = small_sample_bias(drawn(150, 0, 0.8), distance)
    assert gaussian is not None
    assert mean_bias == pytest.approx(apart, rel=0.15)
    assert apart > 1.2 * gaussian.distance_bias(150, 150)


def test_of_many_vectors_it_is_the_closed_form() -> None:
    """Gaussians of unit covariance in d dimensions, two sets of n: ``2 d / n`` of the means, and of the covariances
    ``(d^2 + d) / (2 n)``, to first order in d / n. Each distance is a sum of about d^2 / 2 squares, so that it scatters
    by 3 %, a figure from halves and quarters by up to three times that, and the mean of ten by a third of it."""
    count = 4000
    estimates = [small_sample_bias(drawn(count, seed, 0.0), distance) for seed in range(10)]
    distances = [bias.expected_distance(count) for bias in estimates if bias is not None]
    expected = (2 * FEATURES + (FEATURES**2 + FEATURES) / 2) / count
    assert sum(distances) / 10 == pytest.approx(expected, rel=0.06)


def test_each_set_brings_half_of_it() -> None:
    """A reference of very many images brings nothing, one of another size its own."""
    bias = SmallSampleBias(offset=0.0, slope=0.01)
    assert bias.distance_bias(50, 50) == pytest.approx(2)
    assert bias.distance_bias(None, 50) == pytest.approx(1)
    assert bias.distance_bias(100, 50) == pytest.approx(1.5)


def test_sets_that_tell_nothing_have_no_estimate() -> None:
    """A quarter of one vector; vectors that are all alike."""
    assert small_sample_bias(drawn(7, 0, 1.0), distance) is None
    constant = GroupedStatistics(4)
    constant.update(torch.ones(40, 3, dtype=torch.float64), range(40))
    assert small_sample_bias(constant, distance) is None


def test_a_note_is_written_with_the_result() -> None:
    """``results.json`` has a note where there is one."""
    with_note, without = (EvalResult(metric="fid", value=1.0, num_samples=9, note=note) for note in ("few", ""))
    assert results_json([with_note])["fid"]["note"] == "few"
    assert "note" not in results_json([without])["fid"]
