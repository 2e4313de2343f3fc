"""FDr^k, the Frechet distance of generated images over that of held-out real ones."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch
from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import FeaturesSpec
from diffusability.eval.generation.frechet_ratio import FDr
from diffusability.eval.specs.frechet_ratio import FDrSpec

Noise = Callable[..., Tensor]


class Pooled(FeatureExtractor):
    """Mean pixels at ``side x side`` places, and their squares."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side, self.dimension = side, 6 * side**2

    def forward(self, images: Tensor) -> Tensor:
        pooled = 4 * F.adaptive_avg_pool2d(images, self.side).flatten(1)
        return torch.cat([pooled, pooled.square()], dim=1)


class PooledSpec(FeaturesSpec):
    """A small network of its own for each side."""

    kind: Literal["pooled-squares"] = "pooled-squares"
    side: int = 1

    def label(self) -> str:
        return f"pooled_{self.side}"

    def build(self, context: BuildContext) -> Pooled:
        return Pooled(self.side)


def spec_of(*sides: int, **fields: Any) -> FDrSpec:
    """The ratio in these networks."""
    return FDrSpec.model_construct(
        **{**dict(FDrSpec()), "features": tuple(PooledSpec(side=s) for s in sides), **fields}
    )


def distance(side: int, first: Tensor, second: Tensor) -> float:
    """The textbook's formula, with scipy's matrix root."""
    moments = []
    for images in (first, second):
        vectors = Pooled(side)(images).double().numpy()
        moments.append((vectors.mean(0), np.cov(vectors, rowvar=False)))
    (m1, s1), (m2, s2) = moments
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * root.real))


def results(spec: FDrSpec, sizes: Sequence[int], **sets: Tensor) -> dict[str, EvalResult]:
    """Of an evaluator that is fed in batches of these sizes."""
    evaluator, start = FDr(spec), 0
    for size in sizes:
        rows = slice(start, start + size)
        fields: dict[str, Any] = {name: images[rows] for name, images in sets.items()}
        evaluator.update(EvaluationBatch(indices=range(start, start + size), **fields))
        start += size
    return {result.metric: result for result in evaluator.compute()}


def sets_of(noise: Noise, count: int = 120) -> dict[str, Tensor]:
    """Real, held-out and generated images, the latter of another mean and width."""
    return {
        "images": noise(count, 3, 8, 8),
        "held_out": noise(count, 3, 8, 8, seed=1),
        "generated": 0.8 * noise(count, 3, 8, 8, seed=2) + 0.1,
    }


def test_the_ratio_is_the_mean_over_networks(noise: Noise) -> None:
    """Against scipy: FD(generated, real) / FD(held out, real), mean over two networks, fed in three batches."""
    sets = sets_of(noise)
    by_metric = results(spec_of(1, 2), [50, 40, 30], **sets)
    expected = {
        side: distance(side, sets["generated"], sets["images"]) / distance(side, sets["held_out"], sets["images"])
        for side in (1, 2)
    }
    assert by_metric["fdr"].value == pytest.approx(sum(expected.values()) / 2, rel=1e-4)
    assert [by_metric[f"fdr_pooled_{side}"].value for side in (1, 2)] == pytest.approx(
        list(expected.values()), rel=1e-4
    )
    assert by_metric["fdr"].spec["num_networks"] == 2
    assert by_metric["fdr"].note == ""


def test_halves_take_the_part_of_held_out_images(noise: Noise) -> None:
    """Against scipy: each half of the real images against the other, and the generated images of equal places."""
    sets = sets_of(noise)
    del sets["held_out"]
    by_metric = results(spec_of(2, held_out="halves"), [7] * 17 + [1], **sets)
    even, odd = slice(0, None, 2), slice(1, None, 2)
    real, generated = sets["images"], sets["generated"]
    floor = distance(2, real[even], real[odd])
    expected = (distance(2, generated[odd], real[even]) + distance(2, generated[even], real[odd])) / 2 / floor
    assert by_metric["fdr"].value == pytest.approx(expected, rel=1e-4)


def test_other_real_images_have_a_ratio_of_about_one(noise: Noise) -> None:
    """Generated images of the very distribution, over eight draws; and the spread covers how they scatter."""
    values, spreads = [], []
    for seed in range(8):
        images, generated = (noise(400, 3, 8, 8, seed=10 * seed + part) for part in (1, 2))
        result = results(spec_of(2, held_out="halves"), [400], images=images, generated=generated)["fdr"]
        values.append(result.value)
        spreads.append(result.spread)
    assert np.mean(values) == pytest.approx(1.0, abs=0.1)
    assert 0.5 * np.std(values) < np.mean(spreads) < 3 * np.std(values)


def test_the_spread_leaves_out_groups_of_all_sets(noise: Noise) -> None:
    """The jackknife by hand: the ratio of all images but each tenth."""
    sets = sets_of(noise)
    result = results(spec_of(1), [120], **sets)["fdr"]
    rest = []
    for group in range(10):
        kept = torch.arange(120) % 10 != group
        part = {name: images[kept] for name, images in sets.items()}
        rest.append(distance(1, part["generated"], part["images"]) / distance(1, part["held_out"], part["images"]))
    assert result.spread == pytest.approx(np.sqrt(9 / 10 * ((rest - np.mean(rest)) ** 2).sum()), rel=1e-3)
    assert results(spec_of(1, jackknife_groups=0), [120], **sets)["fdr"].spread is None


def test_ranks_do_not_matter(noise: Noise) -> None:
    """Two evaluators that saw a share each, merged, against one that saw all."""
    sets = sets_of(noise)
    alone = results(spec_of(1, 2), [120], **sets)
    parts = [FDr(spec_of(1, 2)), FDr(spec_of(1, 2))]
    for place, evaluator in zip((range(70), range(70, 120)), parts, strict=True):
        fields: dict[str, Any] = {name: images[place.start : place.stop] for name, images in sets.items()}
        evaluator.update(EvaluationBatch(indices=place, **fields))
    parts[0].merge(parts[1].state())
    merged = {result.metric: result for result in parts[0].compute()}
    assert {name: result.value for name, result in merged.items()} == pytest.approx(
        {name: result.value for name, result in alone.items()}, rel=1e-9
    )


def test_what_means_little_is_refused(noise: Noise) -> None:
    """Few images, the same network twice, and held-out images that are the real ones."""
    with pytest.raises(ValidationError, match=r"fdr of halves of 2000 images with 1280 features each is far off"):
        FDrSpec(num_samples=2000, held_out="halves")
    with pytest.raises(ValidationError, match="networks must differ; more than one: efficientnet_lite0"):
        FDrSpec(features=({"kind": "efficientnet-lite0"}, {"kind": "efficientnet-lite0"}))
    with pytest.raises(DataError, match="expected more than 24 images in each set"):
        FDr(spec_of(2)).expect(24)
    images = noise(60, 3, 8, 8)
    with pytest.raises(DataError, match="held-out images have the same statistics"):
        results(spec_of(1), [60], images=images, held_out=images, generated=images)


def test_fewer_held_out_images_are_remarked(noise: Noise) -> None:
    """Where some could not be read."""
    sets = sets_of(noise)
    sets["held_out"] = sets["held_out"][:110]
    result = results(spec_of(1), [60, 60], **sets)["fdr"]
    assert result.spec["num_held_out"] == 110
    assert result.note.startswith("120 generated images stand against 110 held-out ones")
