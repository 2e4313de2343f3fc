"""Features of real images that are kept in a folder: computed once, and again whenever they would be others."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusability.core.contracts.evaluator import EvaluationBatch
from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import FeaturesSpec
from diffusability.eval.features.feature_cache import FeatureCache
from diffusability.eval.features.feature_sets import SharedFeatures
from diffusability.eval.specs.generation import KIDSpec

Noise = Callable[..., Tensor]


class Counting(FeatureExtractor):
    """Three features, and how many images it has seen."""

    dimension = 3

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.seen = 0
        self._settings = settings

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return F.adaptive_avg_pool2d(images, 1).flatten(1)

    def settings(self) -> Mapping[str, Any]:
        return self._settings


class CountingSpec(FeaturesSpec):
    """Mean pixels."""

    kind: Literal["counting"] = "counting"
    layer: str = "last"

    def build(self, context: BuildContext) -> Counting:
        return Counting({"weights": "1"})


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """In a folder that is not there yet."""
    return FeatureCache(directory=tmp_path / "cache" / "features")


@pytest.fixture
def images() -> Tensor:
    """Eight images of 8 bits."""
    levels = torch.randint(256, (8, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    return levels / 127.5 - 1


def count(
    cache: FeatureCache | None, images: Tensor, settings: Mapping[str, Any] | None = None, **spec: Any
) -> tuple[int, Tensor]:
    """How many images a fresh extractor sees, and the features."""
    extractor = Counting({"weights": "1"} if settings is None else settings)
    features = SharedFeatures(CountingSpec(**spec), extractor).extract(images, range(len(images)), cache=cache)
    return extractor.seen, features


def test_a_batch_is_computed_once(cache: FeatureCache, images: Tensor) -> None:
    """Bit for bit the same features, and nothing left but one file."""
    seen, first = count(cache, images)
    again, second = count(cache, images.clone())
    assert (seen, again) == (8, 0)
    assert torch.equal(first, second)
    assert torch.equal(first, count(None, images)[1])
    assert len(list(cache.directory.iterdir())) == 1


def test_evaluators_of_other_seeds_share_the_features_of_images(images: Tensor) -> None:
    """The seed draws frames of clips: images have none to draw, and are computed once; clips once for each seed."""
    extractor = Counting({"weights": "1"})
    shared = SharedFeatures(CountingSpec(), extractor)
    for seed in (0, 2020):
        shared.extract(images, range(8), seed)
    assert extractor.seen == 8
    clips = images.reshape(2, 3, 4, 6, 6)
    first, second = (shared.extract(clips, range(2), seed) for seed in (0, 3))
    assert extractor.seen == 8 + 2 * 2
    assert first.shape == second.shape == (2, 3)


@pytest.mark.parametrize("other", ["pixel", "order", "fewer", "float", "weights", "layer"])
def test_whatever_would_change_features_computes_them_anew(cache: FeatureCache, images: Tensor, other: str) -> None:
    """A grey level of one pixel, another order or number of images, values between grey levels, other settings."""
    count(cache, images)
    changed, settings, spec = images.clone(), {"weights": "1"}, {}
    if other == "pixel":
        changed[3, 1, 2, 2] += 1 / 127.5 if changed[3, 1, 2, 2] < 0 else -1 / 127.5
    elif other == "order":
        changed = changed.flip(0)
    elif other == "fewer":
        changed = changed[:5]
    elif other == "float":
        changed[0, 0, 0, 0] *= 0.9993
    elif other == "weights":
        settings = {"weights": "2"}
    else:
        spec = {"layer": "first"}
    seen, features = count(cache, changed, settings, **spec)
    assert seen == len(changed)
    assert torch.equal(features, count(None, changed)[1])


def test_a_damaged_file_is_made_anew(cache: FeatureCache, images: Tensor) -> None:
    """Cut short, and empty."""
    _, features = count(cache, images)
    (path,) = cache.directory.iterdir()
    for content in (path.read_bytes()[:-7], b""):
        path.write_bytes(content)
        seen, again = count(cache, images)
        assert seen == 8
        assert torch.equal(again, features)
    assert count(cache, images)[0] == 0


def test_an_extractor_without_settings_is_not_trusted(cache: FeatureCache, images: Tensor) -> None:
    """Nothing says whether its weights are the same."""
    assert count(cache, images, {})[0] == count(cache, images, {})[0] == 8
    assert not cache.directory.exists()


def test_features_that_are_not_finite_are_not_kept(cache: FeatureCache, images: Tensor) -> None:
    """The error comes every time."""
    images[2] = float("nan")
    for _ in range(2):
        with pytest.raises(DataError, match="first at index 2"):
            count(cache, images)


def test_evaluators_of_a_run_keep_real_images_only(tmp_path: Path, noise: Noise, images: Tensor) -> None:
    """Two variants of other samples: the same number as without a run, and one file for each batch of real images."""
    values = []
    for context in (BuildContext(), *2 * (BuildContext(cache_directory=tmp_path),)):
        spec = KIDSpec.model_construct(**{**dict(KIDSpec()), "features": CountingSpec(), "subset_size": 4})
        evaluator = spec.build(context)
        for first in (0, 4):
            rows = slice(first, first + 4)
            batch = EvaluationBatch(
                indices=range(first, first + 4), images=images[rows], generated=noise(8, 3, 6, 6)[rows]
            )
            evaluator.update(batch)
        values.append([result.value for result in evaluator.compute()])
    assert values[0] == values[1] == values[2]
    assert len(list((tmp_path / "features").iterdir())) == 2
