"""What measures of sets of features keep: what they come to without each group, or each sample's own part."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch
from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import EvaluatorSpec, FeaturesSpec
from diffusability.eval.predictors import uniformity
from diffusability.eval.specs.features.efficientnet_lite import EfficientNetLite0Spec
from diffusability.eval.specs.generation import (
    CMMDSpec,
    FrechetSpec,
    InceptionScoreSpec,
    KIDSpec,
    PrecisionRecallSpec,
)
from diffusability.eval.specs.predictors import UniformitySpec

Noise = Callable[..., Tensor]
COUNT = 40


class Pixels(FeatureExtractor):
    """The pixels themselves."""

    dimension = 12

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class PixelsSpec(FeaturesSpec):
    """Pixels as features, or as logits of twelve classes."""

    kind: Literal["own-pixels"] = "own-pixels"

    def build(self, context: BuildContext) -> Pixels:
        return Pixels()


def spec_of(cls: type[EvaluatorSpec], **fields: Any) -> EvaluatorSpec:
    """A measure of pixels."""
    usual = cls(features=EfficientNetLite0Spec()) if cls is FrechetSpec else cls()
    return cls.model_construct(**{**dict(usual), "features": PixelsSpec(), **fields})


@pytest.fixture
def sets(noise: Noise) -> tuple[Tensor, Tensor]:
    """Real and generated images of 2 x 2 pixels."""
    return noise(COUNT, 3, 2, 2), 0.8 * noise(COUNT, 3, 2, 2, seed=1) + 0.2


def results_of(spec: EvaluatorSpec, real: Tensor, generated: Tensor) -> dict[str, EvalResult]:
    """Two batches, the later images first."""
    evaluator = spec.build(BuildContext())
    for places in (range(len(real) // 2, len(real)), range(len(real) // 2)):
        part = slice(places.start, places.stop)
        evaluator.update(EvaluationBatch(indices=places, images=real[part], generated=generated[part]))
    return {result.metric: result for result in evaluator.compute()}


def only(results: dict[str, EvalResult]) -> EvalResult:
    (result,) = results.values()
    return result


@pytest.mark.parametrize(
    "spec_without",
    [
        lambda left: spec_of(KIDSpec, subsets=1, subset_size=COUNT - left),
        lambda left: spec_of(CMMDSpec, sigma=3.0),
    ],
    ids=["kid", "cmmd"],
)
def test_kernel_distances_keep_what_they_are_without_each_pair(
    spec_without: Callable[[int], EvaluatorSpec], sets: tuple[Tensor, Tensor]
) -> None:
    """Against the evaluator on the other images; the jackknife's spread from these."""
    result = only(results_of(spec_without(0), *sets))
    assert result.values.places.tolist() == list(range(COUNT))
    assert set(result.values.counts) == {1}
    for place in (0, 7, COUNT - 1):
        rest = [index for index in range(COUNT) if index != place]
        alone = only(results_of(spec_without(1), *(part[rest] for part in sets)))
        assert result.values.values[place] == pytest.approx(alone.value, rel=1e-9)
    left_out = result.values.values
    jackknife = np.sqrt((COUNT - 1) / COUNT * np.sum((left_out - left_out.mean()) ** 2))
    assert result.values.spread(result.value) == pytest.approx(jackknife, rel=0.05)


def test_precision_and_recall_keep_which_samples_are_covered(sets: tuple[Tensor, Tensor]) -> None:
    """Against loops in numpy; the number is their mean, the spread the standard error of a share."""
    real, generated = (part.flatten(1).double().numpy() for part in sets)

    def inside(points: np.ndarray, centres: np.ndarray) -> list[float]:
        reach = [sorted(np.linalg.norm(centres - centre, axis=1))[3] for centre in centres]
        return [float(any(np.linalg.norm(centres - point, axis=1) <= reach)) for point in points]

    results = results_of(spec_of(PrecisionRecallSpec), *sets)
    expected = {"precision": inside(generated, real), "recall": inside(real, generated)}
    for metric, result in results.items():
        wanted = expected[metric.split("_")[0]]
        assert result.values.values.tolist() == wanted
        assert 0 < np.mean(wanted) < 1
        assert result.value == pytest.approx(np.mean(wanted))
        assert result.spread == pytest.approx(np.std(wanted) / np.sqrt(COUNT))


def test_inception_score_keeps_what_it_is_without_each_split(sets: tuple[Tensor, Tensor]) -> None:
    """The mean over the other splits, each by scipy's entropy; of one split there is nothing to leave out."""
    result = only(results_of(spec_of(InceptionScoreSpec, splits=4), *sets))
    order = np.random.RandomState(InceptionScoreSpec().seed).permutation(COUNT)
    given = scipy.special.softmax(sets[1].flatten(1).double().numpy()[order], axis=1)
    scores = [np.exp(scipy.stats.entropy(part, part.mean(0), axis=1).mean()) for part in np.split(given, 4)]
    expected = [np.mean([score for other, score in enumerate(scores) if other != split]) for split in range(4)]
    np.testing.assert_allclose(result.values.values, expected, rtol=1e-5)
    assert result.value == pytest.approx(np.mean(scores), rel=1e-5)
    whole = only(results_of(spec_of(InceptionScoreSpec, splits=1), *sets))
    assert (whole.spread, whole.values) == (None, None)


def test_a_frechet_distance_keeps_what_it_is_without_each_tenth(sets: tuple[Tensor, Tensor]) -> None:
    """By numpy's covariances and scipy's matrix root of the other images."""
    result = only(results_of(spec_of(FrechetSpec), *sets))
    assert result.values.counts.tolist() == [4] * 10
    for group in range(10):
        real, generated = (
            part.flatten(1).double().numpy()[[index for index in range(COUNT) if index % 10 != group]] for part in sets
        )
        first, second = (np.cov(part, rowvar=False) for part in (real, generated))
        root = scipy.linalg.sqrtm(first @ second).real
        expected = np.sum((real.mean(0) - generated.mean(0)) ** 2) + np.trace(first + second - 2 * root)
        assert result.values.values[group] == pytest.approx(expected, rel=1e-6)
    left_out = result.values.values
    assert result.spread == pytest.approx(np.sqrt(9 / 10 * np.sum((left_out - left_out.mean()) ** 2)))


def test_uniformity_keeps_what_it_is_without_each_group_of_images(
    noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plane and the densities are taken as given, here the first two channels and scipy's kernel density."""
    monkeypatch.setattr(uniformity, "embedded", lambda points, seed: points[:, :2].double())
    latents = noise(COUNT, 3, 2, 2)
    evaluator = UniformitySpec(num_samples=COUNT, num_points=4 * COUNT).build(BuildContext())
    evaluator.update(EvaluationBatch(indices=range(COUNT), latents=latents))
    results = {result.metric: result for result in evaluator.compute()}
    flat = latents.flatten(2).double()
    centred = (flat - flat.mean((0, 2), keepdim=True)) / flat.std((0, 2), keepdim=True, correction=0)
    points = centred.transpose(1, 2).numpy()[:, :, :2]  # images, places, plane
    densities = scipy.stats.gaussian_kde(points.reshape(-1, 2).T)(points.reshape(-1, 2).T).reshape(COUNT, 4)
    values = results["density_cv"].values
    num_groups = len(values.places)
    for group in range(num_groups):
        rest = densities[[index for index in range(COUNT) if index % num_groups != group]]
        assert values.values[group] == pytest.approx(rest.std() / rest.mean(), rel=1e-4)
    assert values.counts.sum() == 4 * COUNT
    assert results["density_cv"].value == pytest.approx(densities.std() / densities.mean(), rel=1e-4)
