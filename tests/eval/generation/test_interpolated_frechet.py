"""iFID: Frechet distance of what is decoded between neighbouring latents; and distances beside their floor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch
from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import FeaturesSpec
from diffusability.eval.generation.interpolated_frechet import InterpolatedFrechet, nearest_others, slerp
from diffusability.eval.specs.features.efficientnet_lite import EfficientNetLite0Spec
from diffusability.eval.specs.generation import FrechetSettings, FrechetSpec, IFIDSpec, RFIDSpec

Noise = Callable[..., Tensor]
Evaluate = Callable[..., dict[str, EvalResult]]


class Pooled(FeatureExtractor):
    """Twelve mean pixels, tenfold."""

    dimension = 12

    def forward(self, images: Tensor) -> Tensor:
        return 10 * torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


class PooledSpec(FeaturesSpec):
    """Pixels as features."""

    kind: str = "pooled"

    def build(self, context: BuildContext) -> Pooled:
        return Pooled()


def spec_of(cls: type[FrechetSettings], **fields: Any) -> FrechetSettings:
    """A distance in these features."""
    return cls.model_construct(**{**dict(cls(features=EfficientNetLite0Spec())), "features": PooledSpec(), **fields})


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_slerp_is_scipys(share: float, noise: Noise) -> None:
    """Against scipy's on the unit sphere; on vectors of other lengths the formula; parallel and zero vectors."""
    first, second = (noise(5, 2, 3, seed=seed).double() for seed in (0, 1))
    first, second = (x / x.flatten(1).norm(dim=1).view(-1, 1, 1) for x in (first, second))
    between = slerp(first, second, share)
    for a, b, c in zip(first, second, between, strict=True):
        np.testing.assert_allclose(c.flatten(), geometric_slerp(a.flatten(), b.flatten(), [share])[0], atol=1e-12)
    torch.testing.assert_close(slerp(2 * first, 2 * second, share), 2 * between)
    torch.testing.assert_close(slerp(first, 3 * first, share), first * (1 + 2 * share))
    torch.testing.assert_close(slerp(first, torch.zeros_like(first), share), first * (1 - share))


def test_neighbours_are_scikit_learns(noise: Noise) -> None:
    """Against an exact search, over more rows than one part of the matrix holds."""
    vectors = noise(700, 6)
    expected = NearestNeighbors(n_neighbors=1).fit(vectors.numpy()).kneighbors(return_distance=False)[:, 0]
    assert nearest_others(vectors).tolist() == expected.tolist()


def test_the_distance_is_of_decoded_neighbours(
    noise: Noise, evaluate: Evaluate, pooling: Callable[[int], Autoencoder]
) -> None:
    """In batches, against a Frechet distance of the images that are decoded by hand."""
    images = 0.3 * noise(60, 3, 8, 8)
    autoencoder = pooling(2)
    latents = autoencoder.encode(images).mode()
    neighbours = NearestNeighbors(n_neighbors=1).fit(latents.flatten(1)).kneighbors(return_distance=False)[:, 0]
    between = autoencoder.decode(slerp(latents, latents[neighbours], 0.5)).clamp(-1, 1)
    (expected,) = evaluate(spec_of(FrechetSpec), images=images, generated=between).values()
    spec = spec_of(IFIDSpec)
    (result,) = evaluate(spec, [25, 35], autoencoder=autoencoder, images=images, latents=latents).values()
    assert result.metric == "i_frechet_pooled"
    assert result.value == pytest.approx(expected.value, rel=1e-6)
    assert result.spread == pytest.approx(expected.spread, rel=1e-6)
    assert result.spec["interpolation"] == "slerp at 0.5 to the nearest latent"
    assert IFIDSpec().metric() == "ifid"
    assert spec.needed() == {"images", "latents", "autoencoder"}
    assert spec.metric_info("i_frechet_pooled") is not None


def test_ranks_do_not_matter(noise: Noise, pooling: Callable[[int], Autoencoder]) -> None:
    """Neighbours are looked for among the latents of all ranks."""
    images, autoencoder = 0.3 * noise(40, 3, 8, 8), pooling(4)
    latents = autoencoder.encode(images).mode()

    def fed(*places: range) -> InterpolatedFrechet:
        evaluator = spec_of(IFIDSpec).build(BuildContext())
        for place in places:
            rows = slice(place.start, place.stop)
            evaluator.update(
                EvaluationBatch(indices=place, images=images[rows], latents=latents[rows], autoencoder=autoencoder)
            )
        return evaluator

    first, second = fed(range(15), range(30, 40)), fed(range(15, 30))
    first.merge(second.state())
    assert first.compute()[0].value == pytest.approx(fed(range(40)).compute()[0].value, rel=1e-6)


def test_a_distance_stands_beside_its_floor(noise: Noise, evaluate: Evaluate) -> None:
    """The reconstructions' distance as rfid has it, the difference, and its spread in pairs by hand."""
    images, generated, reconstruction = (noise(60, 3, 8, 8, seed=seed) for seed in range(3))
    sets = {"images": images, "generated": 0.5 * generated, "reconstruction": 0.9 * images + 0.1 * reconstruction}
    spec = spec_of(FrechetSpec, floor=True)
    by_metric = evaluate(spec, [20, 40], **sets)
    (plain,) = evaluate(spec_of(FrechetSpec), images=images, generated=sets["generated"]).values()
    (floor,) = evaluate(spec_of(RFIDSpec), images=images, reconstruction=sets["reconstruction"]).values()
    assert by_metric["frechet_pooled"].value == pytest.approx(plain.value, rel=1e-9)
    assert by_metric["frechet_pooled_floor"].value == pytest.approx(floor.value, rel=1e-9)
    above = by_metric["frechet_pooled_above_floor"]
    assert above.value == pytest.approx(plain.value - floor.value, rel=1e-9)
    assert plain.values is not None
    assert floor.values is not None
    rest = plain.values.values - floor.values.values
    assert above.spread == pytest.approx(np.sqrt(9 / 10 * ((rest - rest.mean()) ** 2).sum()), rel=1e-6)
    assert spec.needed() == {"images", "generated", "reconstruction"}
    info = FrechetSpec(floor=True).metric_info("fid_above_floor")
    assert info is not None
    assert info.label == "FID above floor"
    merged, other = (spec.build(BuildContext()) for _ in range(2))
    for evaluator, rows in ((merged, slice(0, 30)), (other, slice(30, 60))):
        parts: dict[str, Any] = {name: value[rows] for name, value in sets.items()}
        evaluator.update(EvaluationBatch(indices=range(rows.start, rows.stop), **parts))
    merged.merge(other.state())
    assert merged.compute()[1].value == pytest.approx(floor.value, rel=1e-9)
