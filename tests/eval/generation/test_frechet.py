"""Frechet distances of generated images and of reconstructions, as evaluators."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import FeaturesSpec
from diffusability.eval.generation.frechet import frechet_distance
from diffusability.eval.specs.features.efficientnet_lite import EfficientNetLite0Spec
from diffusability.eval.specs.features.inception import InceptionSpec
from diffusability.eval.specs.generation import FrechetSettings, FrechetSpec, RFIDSpec

Evaluate = Callable[..., dict[str, EvalResult]]


class Pixels(FeatureExtractor):
    """Twelve features: 2 x 2 mean pixels of three channels, times a gain."""

    dimension = 12

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.gain * F.adaptive_avg_pool2d(images, 2).flatten(1)

    def settings(self) -> dict[str, Any]:
        return {"gain": self.gain}


class PixelsSpec(FeaturesSpec):
    """Pixels as features."""

    kind: Literal["pixels"] = "pixels"
    gain: float = 10.0

    def build(self, context: BuildContext) -> Pixels:
        return Pixels(self.gain)


def spec_of(cls: type[FrechetSettings] = FrechetSpec, **fields: Any) -> FrechetSettings:
    """A distance in pixel features."""
    return cls.model_construct(**{**dict(cls(features=EfficientNetLite0Spec())), "features": PixelsSpec(), **fields})


def expected_distance(first: Tensor, second: Tensor, gain: float = 10.0) -> float:
    """By numpy's covariance and scipy-free closed parts of another test."""
    features = [gain * F.adaptive_avg_pool2d(images, 2).flatten(1).double() for images in (first, second)]
    moments = [(part.mean(0), torch.from_numpy(np.cov(part.numpy(), rowvar=False))) for part in features]
    return frechet_distance(*moments[0], *moments[1])


def test_the_distance_is_that_of_the_features_moments(noise: Callable[..., Tensor], evaluate: Evaluate) -> None:
    """In batches, against numpy's moments of all features at once; the result says what it was made of."""
    real, generated = noise(30, 3, 8, 8), 0.5 * noise(30, 3, 8, 8, seed=1) + 0.2
    (result,) = evaluate(spec_of(), [7, 13, 10], images=real, generated=generated).values()
    assert result.metric == "frechet_pixels"
    assert result.value == pytest.approx(expected_distance(real, generated), rel=1e-5)
    assert result.higher_is_better is False
    assert result.num_samples == 30
    assert result.spec == {
        "features": "pixels",
        "gain": 10.0,
        "num_real": 30,
        "image_size": [8, 8],
        "spread_over": "jackknife of 10 groups of images",
    }


def test_reconstructions_are_compared_by_rfid(noise: Callable[..., Tensor], evaluate: Evaluate) -> None:
    """The same number of the same sets, under another name."""
    real, other = noise(30, 3, 8, 8), noise(30, 3, 8, 8, seed=1)
    (generated,) = evaluate(spec_of(), images=real, generated=other).values()
    (reconstructed,) = evaluate(spec_of(RFIDSpec), images=real, reconstruction=other).values()
    assert reconstructed.metric == "r_frechet_pixels"
    assert reconstructed.value == generated.value


@pytest.mark.parametrize(
    ("features", "names"),
    [
        (InceptionSpec(), ("fid", "rfid")),
        (InceptionSpec(layer="spatial"), ("sfid", "rsfid")),
        (InceptionSpec(layer="768"), ("frechet_inception_768", "r_frechet_inception_768")),
        (EfficientNetLite0Spec(), ("frechet_efficientnet_lite0", "r_frechet_efficientnet_lite0")),
    ],
)
def test_only_inceptions_distance_is_called_fid(features: FeaturesSpec, names: tuple[str, str]) -> None:
    """Names by features; two distances of one stage are told apart by them."""
    specs = FrechetSpec(features=features), RFIDSpec(features=features)
    assert tuple(spec.metric() for spec in specs) == names
    assert specs[0].distinct_name() != FrechetSpec(features=PixelsSpec(), num_samples=99).distinct_name()


def test_ranks_do_not_matter(noise: Callable[..., Tensor]) -> None:
    """Three evaluators that saw a share each, one of them nothing, merged, against one that saw all."""
    real, generated = noise(30, 3, 8, 8), noise(30, 3, 8, 8, seed=1)

    def fed(*places: range) -> Evaluator:
        evaluator = spec_of().build(BuildContext())
        for place in places:
            batch = slice(place.start, place.stop)
            evaluator.update(EvaluationBatch(indices=place, images=real[batch], generated=generated[batch]))
        return evaluator

    first, second, third = fed(range(0, 10), range(20, 30)), fed(range(10, 20)), fed()
    for other in (second, third):
        first.merge(other.state())
    alone = fed(range(30)).compute()[0]
    merged = first.compute()[0]
    assert merged.value == pytest.approx(alone.value, rel=1e-9)
    assert merged.spec == alone.spec
    empty = fed()
    empty.merge(fed(range(30)).state())
    assert empty.compute()[0].value == pytest.approx(alone.value, rel=1e-9)


def test_one_network_serves_all_distances_of_a_batch(noise: Callable[..., Tensor]) -> None:
    """Two evaluators with equal features run the network once for each of the two sets."""
    evaluators = [spec_of(features=PixelsSpec(gain=3.0)).build(BuildContext()) for _ in range(2)]
    batch = EvaluationBatch(indices=range(4), images=noise(4, 3, 8, 8), generated=noise(4, 3, 8, 8, seed=1))
    for evaluator in evaluators:
        evaluator.update(batch)
    extractors = {id(evaluator._features.extractor) for evaluator in evaluators}  # type: ignore[attr-defined]
    assert len(extractors) == 1
    assert evaluators[0]._features.extractor.calls == 2  # type: ignore[attr-defined]


def test_statistics_are_written_as_adm_has_them_and_read_again(
    noise: Callable[..., Tensor], evaluate: Evaluate, tmp_path: Path
) -> None:
    """Written beside a distance, readable as ``mu`` and ``sigma``; as a reference they give the same distance without
    real images, and the result names the file."""
    real, generated = noise(30, 3, 8, 8), noise(30, 3, 8, 8, seed=1)
    path = tmp_path / "folder" / "reference.npz"
    (direct,) = evaluate(spec_of(write_reference=path), images=real, generated=generated).values()
    with np.load(path) as content:
        features = 10 * F.adaptive_avg_pool2d(real, 2).flatten(1).double().numpy()
        np.testing.assert_allclose(content["mu"], features.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(content["sigma"], np.cov(features, rowvar=False), rtol=1e-4, atol=1e-6)
        assert json.loads(str(content["provenance"]))["num_samples"] == 30
    spec = spec_of(reference=path)
    assert spec.needed() == {"generated"}
    (read,) = evaluate(spec, generated=generated).values()
    assert read.value == pytest.approx(direct.value, rel=1e-12)
    assert read.spec["reference"].startswith("reference.npz ")
    assert read.spec["num_real"] == 30


def test_statistics_without_provenance_are_read(
    noise: Callable[..., Tensor], evaluate: Evaluate, tmp_path: Path
) -> None:
    """A file that holds ``mu`` and ``sigma`` alone, as ADM and EDM publish them."""
    real, generated = noise(30, 3, 8, 8), noise(30, 3, 8, 8, seed=1)
    features = 10 * F.adaptive_avg_pool2d(real, 2).flatten(1).double().numpy()
    np.savez(tmp_path / "adm.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    (result,) = evaluate(spec_of(reference=tmp_path / "adm.npz"), generated=generated).values()
    assert result.value == pytest.approx(expected_distance(real, generated), rel=1e-5)


def test_other_statistics_are_refused(noise: Callable[..., Tensor], evaluate: Evaluate, tmp_path: Path) -> None:
    """Of other features, of another number of them, of too few images, of images of another size, of another file."""
    real, generated = noise(30, 3, 8, 8), noise(30, 3, 8, 8, seed=1)
    path = tmp_path / "reference.npz"
    evaluate(spec_of(write_reference=path), images=real, generated=generated)
    with pytest.raises(DataError, match=r"made with other features: gain 10\.0 instead of 5\.0"):
        spec_of(reference=path, features=PixelsSpec(gain=5.0)).build(BuildContext())
    with pytest.raises(DataError, match=r"compares images of one size: got generated images of 16x16 where .* 8x8"):
        evaluate(spec_of(reference=path), generated=noise(30, 3, 16, 16))
    np.savez(tmp_path / "short.npz", mu=np.zeros(7), sigma=np.eye(7))
    with pytest.raises(DataError, match="statistics of 7 features; features 'pixels' have 12"):
        spec_of(reference=tmp_path / "short.npz").build(BuildContext())
    evaluate(spec_of(write_reference=path, force=True), images=real[:5], generated=generated[:5])
    with pytest.raises(DataError, match="of 5 images with 12 features each is far off"):
        spec_of(reference=path).build(BuildContext())
    np.savez(tmp_path / "images.npz", arr_0=np.zeros((2, 8, 8, 3)))
    with pytest.raises(DataError, match=r"holds 'arr_0'; expected statistics under 'mu' and 'sigma'"):
        spec_of(reference=tmp_path / "images.npz").build(BuildContext())
    np.savez(tmp_path / "odd.npz", mu=np.zeros((2, 6)), sigma=np.eye(7))
    with pytest.raises(DataError, match=r"mean of shape \(2, 6\) and a covariance of shape \(7, 7\)"):
        spec_of(reference=tmp_path / "odd.npz").build(BuildContext())
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"cut\.npz' cannot be read"):
        spec_of(reference=tmp_path / "cut.npz").build(BuildContext())
    with pytest.raises(ValueError, match=r"gone\.npz' do not exist"):
        spec_of(reference=tmp_path / "gone.npz").check_inputs()


def test_few_images_are_noted_with_their_bias(noise: Callable[..., Tensor], evaluate: Evaluate, tmp_path: Path) -> None:
    """Up to five images for each of the twelve features, but no more; measured on the real images, or on the generated
    ones beside a reference, which stands for very many images where it does not say."""
    few, many = (
        evaluate(spec_of(), images=noise(count, 3, 8, 8), generated=noise(count, 3, 8, 8, seed=1))["frechet_pixels"]
        for count in (60, 61)
    )
    assert many.note == ""
    assert few.note.endswith("compare it at an equal number of images only")
    match = re.match(r"about (\S+) of it is due to the small number of images \(60 for 12 features\)", few.note)
    assert match is not None
    assert 0.5 < float(match[1]) / few.value < 2  # both sets are of one distribution: all of it is bias
    real = 10 * F.adaptive_avg_pool2d(noise(60, 3, 8, 8), 2).flatten(1).double().numpy()
    np.savez(tmp_path / "adm.npz", mu=real.mean(0), sigma=np.cov(real, rowvar=False))
    (beside,) = evaluate(spec_of(reference=tmp_path / "adm.npz"), generated=noise(60, 3, 8, 8)).values()
    assert float(beside.note.split()[1]) == pytest.approx(float(match[1]) / 2, rel=0.02)


def test_too_few_images_are_refused_unless_forced(noise: Callable[..., Tensor], evaluate: Evaluate) -> None:
    """As soon as a spec says so, as soon as the number is known, and at the end if images were unreadable."""
    with pytest.raises(ValidationError, match="of 1280 images with 1280 features each is far off"):
        FrechetSpec(features=EfficientNetLite0Spec(), num_samples=1280)
    assert FrechetSpec(features=EfficientNetLite0Spec(), num_samples=1280, force=True).num_samples == 1280
    with pytest.raises(DataError, match="expected more than 12 images"):
        spec_of().build(BuildContext()).expect(12)
    spec_of().build(BuildContext()).expect(13)
    real, generated = noise(8, 3, 8, 8), noise(8, 3, 8, 8, seed=1)
    with pytest.raises(DataError, match="expected more than 12 images"):
        evaluate(spec_of(), images=real, generated=generated)
    (forced,) = evaluate(spec_of(force=True), images=real, generated=generated).values()
    assert forced.value == pytest.approx(expected_distance(real, generated), rel=1e-5)
    assert forced.spec["forced"] is True


def test_odd_sets_are_refused_or_handled(noise: Callable[..., Tensor], evaluate: Evaluate) -> None:
    """Constant sets are as far apart as their means; a single image, NaN, and different resolutions are errors."""
    constant = torch.full((20, 3, 8, 8), 0.5)
    (result,) = evaluate(spec_of(), images=constant, generated=-constant).values()
    assert result.value == pytest.approx(12 * 10.0**2, rel=1e-6)
    with pytest.raises(DataError, match="at least two images of each set, got 1"):
        evaluate(spec_of(force=True), images=constant[:1], generated=constant[:1])
    broken = constant.clone()
    broken[13, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match=r"generated images of sample 13 are not finite \(1 of 1920 values"):
        evaluate(spec_of(), [10, 10], images=constant, generated=broken)
    with pytest.raises(DataError, match="got generated images of 16x16 where others are 8x8"):
        evaluate(spec_of(), images=constant, generated=noise(20, 3, 16, 16))
    with pytest.raises(DataError, match="at least two images of each set, got 0"):
        spec_of().build(BuildContext()).compute()


def test_of_clips_one_frame_is_seen(noise: Callable[..., Tensor], evaluate: Evaluate) -> None:
    """Still clips against their images; the frames of moving clips depend on the clip's index and not on batches."""
    real, generated = noise(20, 3, 8, 8), noise(20, 3, 8, 8, seed=1)
    still = [images[:, :, None].expand(-1, -1, 4, -1, -1) for images in (real, generated)]
    (of_clips,) = evaluate(spec_of(), images=still[0], generated=still[1]).values()
    assert of_clips.value == pytest.approx(expected_distance(real, generated), rel=1e-5)
    moving = noise(20, 3, 5, 8, 8), noise(20, 3, 5, 8, 8, seed=1)
    values = [
        evaluate(spec_of(seed=seed), sizes, images=moving[0], generated=moving[1])["frechet_pixels"].value
        for seed, sizes in ((0, [20]), (0, [3, 17]), (1, [20]))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert values[0] != pytest.approx(values[2], rel=1e-3)
