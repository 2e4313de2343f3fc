"""Spreads of distances between sets, by leaving out samples."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import FeaturesSpec
from diffusability.eval.generation.kernel_distance import (
    Kernel,
    gaussian_kernel,
    kernel_sums,
    mmd_of_sums,
    mmd_spread,
    polynomial_kernel,
)
from diffusability.eval.specs.features.efficientnet_lite import EfficientNetLite0Spec
from diffusability.eval.specs.generation import FrechetSpec
from diffusability.eval.streaming.jackknife import jackknife_spread

Noise = Callable[..., Tensor]
#: Of generated features in each of twelve dimensions; real ones are standard normal.
SHIFT, SCALE = 0.4, 0.7
COUNT = 500


class Pixels(FeatureExtractor):
    """The pixels of images of 2 x 2 as twelve features."""

    dimension = 12

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class PixelsSpec(FeaturesSpec):
    """Pixels as features."""

    kind: Literal["raw-pixels"] = "raw-pixels"

    def build(self, context: BuildContext) -> Pixels:
        return Pixels()


def evaluator_of(**fields: Any) -> Evaluator:
    """Of a Frechet distance with ten groups."""
    defaults = dict(FrechetSpec(features=EfficientNetLite0Spec()))
    spec = FrechetSpec.model_construct(**{**defaults, "features": PixelsSpec(), "jackknife_groups": 10, **fields})
    return spec.build(BuildContext())


def sets(seed: int, noise: Noise, count: int = COUNT) -> tuple[Tensor, Tensor]:
    """Real and generated images whose pixels are independent Gaussians."""
    return noise(count, 3, 2, 2, seed=2 * seed), SHIFT + SCALE * noise(count, 3, 2, 2, seed=2 * seed + 1)


def result_of(evaluator: Evaluator, real: Tensor, generated: Tensor) -> EvalResult:
    evaluator.update(EvaluationBatch(indices=range(len(real)), images=real, generated=generated))
    return evaluator.compute()[0]


def known_spread(count: int, of_real: bool = True) -> float:
    """To first order in ``1 / count``, of d independent dimensions of means m and deviations s.

    The distance is ``sum (m1 - m2)^2 + (s1 - s2)^2``; a sample's mean varies by ``s^2 / n``, its deviation by
    ``s^2 / 2n``. Correlations between dimensions enter at second order only.
    """
    variances = (1.0 if of_real else 0.0) + SCALE**2
    return math.sqrt(12 * (4 * SHIFT**2 * variances + 4 * (1 - SCALE) ** 2 * variances / 2) / count)


def test_without_single_values_it_is_the_standard_error_of_a_mean() -> None:
    """The mean of 50 numbers without each of them, against s / sqrt(n); fewer than two groups say nothing."""
    values = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left_out = (values.sum() - values) / 49
    assert jackknife_spread(left_out.tolist()) == pytest.approx((values.std() / math.sqrt(50)).item(), rel=1e-10)
    with pytest.raises(ValueError, match="at least two groups, got 1"):
        jackknife_spread([1.0])


def test_the_spread_of_a_frechet_distance_is_that_of_independent_draws(noise: Noise) -> None:
    """Root mean square of the spreads of 200 draws against the standard deviation of their distances, and both against
    the closed form."""
    results = [result_of(evaluator_of(), *sets(draw, noise)) for draw in range(200)]
    distances, spreads = (torch.tensor([getattr(result, name) for result in results]) for name in ("value", "spread"))
    estimated = spreads.square().mean().sqrt().item()
    assert distances.std().item() == pytest.approx(known_spread(COUNT), rel=0.15)
    assert estimated == pytest.approx(known_spread(COUNT), rel=0.1)
    assert spreads.std().item() < 0.35 * estimated
    assert results[0].spec["spread_over"] == "jackknife of 10 groups of images"


def test_images_of_a_reference_are_taken_as_given(noise: Noise, tmp_path: Path) -> None:
    """With statistics from a file the spread is that of the generated images alone, over 200 draws of them."""
    path = tmp_path / "reference.npz"
    result_of(evaluator_of(write_reference=path, jackknife_groups=0), *sets(1000, noise, 20_000))
    results = [result_of(evaluator_of(reference=path), *sets(draw, noise)) for draw in range(200)]
    distances, spreads = (torch.tensor([getattr(result, name) for result in results]) for name in ("value", "spread"))
    assert distances.std().item() == pytest.approx(known_spread(COUNT, of_real=False), rel=0.15)
    assert spreads.square().mean().sqrt().item() == pytest.approx(known_spread(COUNT, of_real=False), rel=0.1)


def test_the_distance_is_the_same_and_batches_and_ranks_do_not_matter(noise: Noise) -> None:
    """With groups against without; in batches and merged from two ranks against at once."""
    real, generated = sets(0, noise, 100)
    whole = result_of(evaluator_of(), real, generated)
    plain = result_of(evaluator_of(jackknife_groups=0), real, generated)
    assert whole.value == pytest.approx(plain.value, rel=1e-10)
    assert plain.spread is None
    assert "spread_over" not in plain.spec
    first, second = evaluator_of(), evaluator_of()
    for evaluator, places in ((first, range(33)), (second, range(33, 71)), (first, range(71, 100))):
        part = slice(places.start, places.stop)
        evaluator.update(EvaluationBatch(indices=places, images=real[part], generated=generated[part]))
    first.merge(second.state())
    (merged,) = first.compute()
    assert merged.spread == pytest.approx(whole.spread, rel=1e-9)
    assert merged.value == pytest.approx(whole.value, rel=1e-9)


def test_groups_that_are_too_small_are_refused(noise: Noise) -> None:
    """One group, more than half the images; groups that unreadable images have left with one."""
    for groups in (1, 1001):
        with pytest.raises(ValidationError, match=r"expected 0, or from 2 groups to half of num_samples \(2000\)"):
            FrechetSpec(features=EfficientNetLite0Spec(), num_samples=2000, jackknife_groups=groups)
    with pytest.raises(DataError, match="needs at least two images in each group, so 20 or more of each set; got 19"):
        result_of(evaluator_of(force=True), *sets(0, noise, 19))


def test_a_frechet_distance_has_a_spread_unless_there_are_too_few_images(noise: Noise) -> None:
    """Without a word of the spec: ten groups of 20 images, none of 19; with 0 none of any number."""
    few = result_of(evaluator_of(force=True, jackknife_groups=None), *sets(0, noise, 19))
    enough = result_of(evaluator_of(force=True, jackknife_groups=None), *sets(0, noise, 20))
    assert (few.spread, few.values) == (None, None)
    assert "spread_over" not in few.spec
    assert len(enough.values.values) == 10
    assert enough.spread > 0
    assert FrechetSpec(features=EfficientNetLite0Spec()).jackknife_groups is None


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("kernel", [polynomial_kernel, gaussian_kernel(3.0)])
def test_the_spread_of_a_kernel_distance_is_that_of_leaving_out_each_vector(
    kernel: Kernel, unbiased: bool, noise: Noise
) -> None:
    """Distances of sets that lack a vector, computed again."""
    x, y = noise(17, 6), 0.5 + noise(12, 6, seed=1)

    def distance(first: Tensor, second: Tensor) -> float:
        return mmd_of_sums(kernel_sums(kernel, first, second), unbiased=unbiased)

    without_x = [distance(torch.cat([x[:place], x[place + 1 :]]), y) for place in range(17)]
    without_y = [distance(x, torch.cat([y[:place], y[place + 1 :]])) for place in range(12)]
    expected = math.hypot(jackknife_spread(without_x), jackknife_spread(without_y))
    assert mmd_spread(kernel_sums(kernel, x, y), unbiased=unbiased) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("kernel", "unbiased"), [(polynomial_kernel, True), (gaussian_kernel(3.0), False)])
def test_the_spread_of_a_kernel_distance_is_that_of_independent_draws(
    kernel: Kernel, unbiased: bool, noise: Noise
) -> None:
    """KID's and CMMD's forms: 200 draws of 200 vectors, root mean square of their spreads against the standard
    deviation of their distances."""
    sums = [kernel_sums(kernel, *(part.flatten(1) for part in sets(draw, noise, 200))) for draw in range(200)]
    distances = torch.tensor([mmd_of_sums(sums_of_draw, unbiased=unbiased) for sums_of_draw in sums])
    spreads = torch.tensor([mmd_spread(sums_of_draw, unbiased=unbiased) for sums_of_draw in sums])
    assert spreads.square().mean().sqrt().item() == pytest.approx(distances.std().item(), rel=0.15)
