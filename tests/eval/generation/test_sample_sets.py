"""KID, CMMD, precision and recall, and Inception score, as maths and as evaluators."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import sklearn.neighbors
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.inception import InceptionScore as TheirScore
from torchmetrics.image.kid import KernelInceptionDistance as TheirKID

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import EvaluatorSpec, FeaturesSpec
from diffusability.eval.generation.inception_score import inception_scores
from diffusability.eval.generation.kernel_distance import (
    gaussian_kernel,
    kernel_sums,
    mmd_of_sums,
    mmd_spread,
    polynomial_kernel,
    unbiased_mmd,
)
from diffusability.eval.generation.precision_recall import precision_and_recall
from diffusability.eval.specs.features.efficientnet_lite import EfficientNetLite0Spec
from diffusability.eval.specs.generation import (
    CMMDSpec,
    InceptionScoreSpec,
    KIDSpec,
    PrecisionRecallSpec,
    SampleSetSpec,
)

Evaluate = Callable[..., dict[str, EvalResult]]
Noise = Callable[..., Tensor]


class Pooled(FeatureExtractor):
    """Mean pixels of three channels at 2 x 2 places, tripled."""

    dimension = 12

    def forward(self, images: Tensor) -> Tensor:
        return 3 * F.adaptive_avg_pool2d(images, 2).flatten(1)


class PooledSpec(FeaturesSpec):
    """Twelve features, which may stand for logits."""

    kind: Literal["pooled"] = "pooled"

    def gives_logits(self) -> bool:
        return True

    def build(self, context: BuildContext) -> Pooled:
        return Pooled()


def spec_of(cls: type[SampleSetSpec], **fields: Any) -> SampleSetSpec:
    """A measure in pooled features."""
    return cls.model_construct(**{**dict(cls()), "features": PooledSpec(), **fields})


@pytest.fixture
def features(noise: Noise) -> tuple[Tensor, Tensor]:
    """Ninety real and seventy generated feature vectors of length 6."""
    return noise(90, 6), 0.7 * noise(70, 6, seed=1) + 0.3


@pytest.fixture
def images(noise: Noise) -> dict[str, Tensor]:
    """Sixty images of each set."""
    return {"images": noise(60, 3, 8, 8), "generated": 0.8 * noise(60, 3, 8, 8, seed=1) + 0.1}


def pooled(images: Tensor) -> Tensor:
    """The features of images."""
    return Pooled()(images)


def test_the_polynomial_distance_is_a_double_loops(features: tuple[Tensor, Tensor]) -> None:
    """Gretton's unbiased and biased sums by numpy's matrices, and the Gaussian kernel of scikit-learn's form."""
    x, y = (part.double().numpy() for part in features)

    def polynomial(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / 6 + 1) ** 3

    def off_diagonal(k: np.ndarray) -> float:
        return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))

    expected = off_diagonal(polynomial(x, x)) + off_diagonal(polynomial(y, y)) - 2 * polynomial(x, y).mean()
    assert unbiased_mmd(polynomial_kernel, *features) == pytest.approx(expected, rel=1e-10)

    def gaussian(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(2) / (2 * 1.5**2))

    expected = gaussian(x, x).mean() + gaussian(y, y).mean() - 2 * gaussian(x, y).mean()

    def biased(first: Tensor, second: Tensor) -> float:
        return mmd_of_sums(kernel_sums(gaussian_kernel(1.5), first, second), unbiased=False)

    assert biased(*features) == pytest.approx(expected, rel=1e-10)
    assert biased(features[0], features[0]) == pytest.approx(0, abs=1e-12)


def test_precision_and_recall_are_scikit_learns_neighbours(features: tuple[Tensor, Tensor]) -> None:
    """Balls from scikit-learn's exact nearest neighbours; far sets share nothing, equal ones everything."""
    real, generated = features

    def covered(centres: np.ndarray, points: np.ndarray) -> float:
        reach = sklearn.neighbors.NearestNeighbors(n_neighbors=4).fit(centres).kneighbors(centres)[0][:, 3]
        distances = np.linalg.norm(points[:, None] - centres[None], axis=2)
        return float((distances <= reach).any(1).mean())

    x, y = (part.double().numpy() for part in features)
    assert precision_and_recall(real, generated) == pytest.approx((covered(x, y), covered(y, x)))
    assert 0.2 < covered(y, x) < covered(x, y) < 1
    assert precision_and_recall(real, real) == (1, 1)
    assert precision_and_recall(real, generated + 100) == (0, 0)


def test_scores_of_known_logits() -> None:
    """Certain and evenly spread over k classes: k. All alike: 1. Classes of probability 0 do no harm."""
    certain = 1e4 * torch.eye(5).repeat(4, 1)
    assert inception_scores(certain, 1).tolist() == pytest.approx([5.0])
    assert inception_scores(torch.zeros(20, 5), 2).tolist() == pytest.approx([1.0, 1.0])


def test_kid_is_torch_fidelitys(images: dict[str, Tensor], evaluate: Evaluate) -> None:
    """The same features, seed and subsets: mean and standard deviation; in any batches."""
    expected = kid_features_to_metric(
        pooled(images["generated"]),
        pooled(images["images"]),
        kid_subsets=7,
        kid_subset_size=20,
        rng_seed=2020,
        verbose=False,
    )
    for sizes in ([60], [7, 33, 20]):
        result = evaluate(spec_of(KIDSpec, subsets=7, subset_size=20), sizes, **images)["kid_pooled"]
        assert result.value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
        assert result.spread == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-3)
    assert result.spec["spread_over"] == "subsets"


@pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features:UserWarning")
def test_kid_of_all_images_is_torchmetrics(images: dict[str, Tensor], evaluate: Evaluate) -> None:
    """One subset of everything, where nothing is random, by torchmetrics with these features."""
    metric = TheirKID(feature=Pooled(), subsets=1, subset_size=60)
    metric.update(images["images"], real=True)
    metric.update(images["generated"], real=False)
    result = evaluate(spec_of(KIDSpec, subsets=1, subset_size=60), **images)["kid_pooled"]
    assert result.value == pytest.approx(metric.compute()[0].item(), rel=1e-4)
    assert result.spread is None


def test_precision_and_recall_are_torch_fidelitys(images: dict[str, Tensor], evaluate: Evaluate) -> None:
    """The same features and neighbourhood."""
    expected = prc_features_to_metric(
        pooled(images["generated"]),
        pooled(images["images"]),
        prc_neighborhood=3,
        prc_batch_size=10000,
        save_cpu_ram=False,
        verbose=False,
    )
    results = evaluate(spec_of(PrecisionRecallSpec), [11, 49], **images)
    for name in ("precision", "recall"):
        assert results[f"{name}_pooled"].value == pytest.approx(expected[name])
        assert 0 < expected[name] < 1


def test_inception_score_is_torch_fidelitys(images: dict[str, Tensor], evaluate: Evaluate) -> None:
    """The same logits, order and splits."""
    generated = images["generated"]
    expected = isc_features_to_metric(pooled(generated), splits=4, shuffle=True, rng_seed=2020)
    result = evaluate(spec_of(InceptionScoreSpec, splits=4), [31, 29], generated=generated)["inception_score_pooled"]
    assert result.value == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    assert result.spread == pytest.approx(expected["inception_score_std"], rel=1e-5)
    assert result.higher_is_better is True


@pytest.mark.filterwarnings("ignore:std:UserWarning")
@pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features:UserWarning")
def test_inception_score_of_one_split_is_torchmetrics(images: dict[str, Tensor], evaluate: Evaluate) -> None:
    """torchmetrics' score with these logits, of all images at once."""
    metric = TheirScore(feature=Pooled(), splits=1)
    metric.update(images["generated"])
    expected = metric.compute()[0].item()
    result = evaluate(spec_of(InceptionScoreSpec, splits=1), generated=images["generated"])["inception_score_pooled"]
    assert result.value == pytest.approx(expected, rel=1e-5)


def test_spreads_of_all_images_are_jackknifes(images: dict[str, Tensor], evaluate: Evaluate) -> None:
    """KID's on request and CMMD's always, in any batches, against the spread of the features; the value stays KID's."""
    usual = evaluate(spec_of(KIDSpec, subsets=7, subset_size=20), **images)["kid_pooled"]
    x, y = pooled(images["images"]), pooled(images["generated"])
    for sizes in ([60], [7, 33, 20]):
        kid = evaluate(spec_of(KIDSpec, subsets=7, subset_size=20, spread="jackknife"), sizes, **images)["kid_pooled"]
        assert kid.value == usual.value
        assert kid.spread == pytest.approx(mmd_spread(kernel_sums(polynomial_kernel, x, y), unbiased=True))
        cmmd = evaluate(spec_of(CMMDSpec), sizes, **images)["cmmd_pooled"]
        expected = 1000 * mmd_spread(kernel_sums(gaussian_kernel(10), x, y), unbiased=False)
        assert cmmd.spread == pytest.approx(expected)
        assert kid.spec["spread_over"] == cmmd.spec["spread_over"] == "jackknife of images"
    two = {name: part[:2] for name, part in images.items()}
    assert evaluate(spec_of(CMMDSpec), **two)["cmmd_pooled"].spread is None
    with pytest.raises(DataError, match="kid needs at least 3 real images, got 2"):
        evaluate(spec_of(KIDSpec, subset_size=2, spread="jackknife"), **two)


def test_cmmd_is_a_thousand_times_the_biased_distance(images: dict[str, Tensor], evaluate: Evaluate) -> None:
    """The mean of kernels over all pairs by numpy, with width 10."""
    x, y = (pooled(images[name]).double().numpy() for name in ("images", "generated"))

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a[:, None] - b[None]) ** 2).sum(2) / 200).mean())

    result = evaluate(spec_of(CMMDSpec), [13, 47], **images)["cmmd_pooled"]
    assert result.value == pytest.approx(1000 * (kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)), rel=1e-6)


@pytest.mark.parametrize("cls", [KIDSpec, CMMDSpec, PrecisionRecallSpec, InceptionScoreSpec])
def test_ranks_do_not_matter(cls: type[SampleSetSpec], images: dict[str, Tensor]) -> None:
    """Three evaluators that saw a share each, one of them nothing, merged, against one that saw all: equal."""
    more = {"subsets": 3, "subset_size": 20} if cls is KIDSpec else {}

    def fed(*places: range) -> Evaluator:
        evaluator = spec_of(cls, **more).build(BuildContext())
        for place in places:
            parts = {name: value[place.start : place.stop] for name, value in images.items()}
            evaluator.update(EvaluationBatch(indices=place, **parts))
        return evaluator

    first = fed(range(20, 40))
    for other in (fed(range(20), range(40, 60)), fed()):
        first.merge(other.state())
    merged, alone = (
        [(result.metric, result.value, result.spread) for result in computing.compute()]
        for computing in (first, fed(range(60)))
    )
    assert merged == alone


def test_plain_names_belong_to_the_usual_features() -> None:
    """``kid``, ``precision``, ``inception_score`` of Inception and ``cmmd`` of CLIP; others say their features."""
    other = EfficientNetLite0Spec()
    assert (KIDSpec().metric("kid"), KIDSpec(features=other).metric("kid")) == ("kid", "kid_efficientnet_lite0")
    assert CMMDSpec().metric("cmmd") == "cmmd"
    assert InceptionScoreSpec().metric("inception_score") == "inception_score"
    logits = EfficientNetLite0Spec(layer="logits")
    name = InceptionScoreSpec(features=logits).metric("inception_score")
    assert name == "inception_score_efficientnet_lite0_logits"
    assert KIDSpec().distinct_name() != KIDSpec(features=other).distinct_name()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "kid", "num_samples": 500}, "a subset of 1000 images does not fit in num_samples"),
        ({"kind": "inception-score", "features": {"kind": "inception"}}, "'inception' are not logits of classes"),
        ({"kind": "inception-score", "num_samples": 5}, "5 images cannot be split into 10 parts"),
    ],
)
def test_mistakes_are_named(spec: dict[str, Any], message: str) -> None:
    """Before anything starts."""
    with pytest.raises(ValidationError, match=message):
        EvaluatorSpec.model_validate(spec)


def test_too_few_images_and_odd_ones_are_errors(images: dict[str, Tensor], evaluate: Evaluate, noise: Noise) -> None:
    """Fewer than a subset, than neighbours, than splits, or one; sets of different sizes; NaN."""
    for cls, fields, least in (
        (KIDSpec, {"subset_size": 70}, 70),
        (PrecisionRecallSpec, {"neighbours": 60}, 61),
        (InceptionScoreSpec, {"splits": 61}, 61),
    ):
        spec = spec_of(cls, **fields)
        with pytest.raises(DataError, match=f"{spec.kind} needs at least {least} images"):
            spec.build(BuildContext()).expect(60)
        with pytest.raises(DataError, match=f"{spec.kind} needs at least {least} .* got 60"):
            evaluate(spec, **images)
    with pytest.raises(DataError, match="cmmd needs at least 2 real images, got 1"):
        evaluate(spec_of(CMMDSpec), images=images["images"][:1], generated=images["generated"][:1])
    with pytest.raises(
        DataError, match=r"precision-recall compares images of one size: got images of 16x16 and of 8x8"
    ):
        evaluate(spec_of(PrecisionRecallSpec), images=images["images"], generated=noise(60, 3, 16, 16))
    broken = images["generated"].clone()
    broken[3, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="not finite"):
        evaluate(spec_of(CMMDSpec), images=images["images"], generated=broken)


def test_constant_sets_have_numbers(evaluate: Evaluate) -> None:
    """Equal constants: no distance, full precision. Far constants: none."""
    constant = torch.full((20, 3, 8, 8), 0.25)
    assert evaluate(spec_of(CMMDSpec), images=constant, generated=constant)["cmmd_pooled"].value == pytest.approx(0)
    equal = evaluate(spec_of(PrecisionRecallSpec), images=constant, generated=constant)
    assert {result.value for result in equal.values()} == {1.0}
    far = evaluate(spec_of(PrecisionRecallSpec), images=constant, generated=-constant)
    assert {result.value for result in far.values()} == {0.0}
