"""What evaluators keep sample by sample, or without each group of samples, against evaluating just those samples."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.stages.image_digests import ImageDigests
from diffusability.eval.generation.kernel_distance import (
    gaussian_kernel,
    kernel_sums,
    mmd_of_sums,
    mmd_without_each_pair,
    polynomial_kernel,
)
from diffusability.eval.specs.generation import SlicedWassersteinSpec
from diffusability.eval.specs.predictors import EquivarianceSpec, InterpolationSpec, SpatialStructureSpec, VIVSpec
from diffusability.eval.specs.reconstruction import KLPerDimSpec, PSNRSpec, SSIMSpec
from diffusability.eval.specs.spectra import ChannelStatisticsSpec, ChopOffSpec, DCTSpectrumSpec, MapSpectrumSpec

COUNT = 12
SPECS = [
    PSNRSpec(),
    SSIMSpec(),
    KLPerDimSpec(),
    DCTSpectrumSpec(),
    ChopOffSpec(shares=[1.0, 0.25]),
    MapSpectrumSpec(),
    SpatialStructureSpec(far=3, longest=3),
    EquivarianceSpec(),
    InterpolationSpec(num_samples=COUNT),
    ChannelStatisticsSpec(),
    VIVSpec(),
    SlicedWassersteinSpec(num_samples=COUNT, max_patches=COUNT * 16),
]


def fields(pooling: Callable[..., Autoencoder]) -> dict[str, object]:
    """Images, an autoencoder's view of them, and other images in the place of generated ones."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(COUNT, 3, 8, 8, generator=generator) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear", align_corners=False)
    images = (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(-1, 1)
    autoencoder = pooling(4)
    posterior = autoencoder.encode(images)
    latents = posterior.mode()
    return {
        "images": images,
        "posterior": Posterior(mean=posterior.mean, logvar=torch.full_like(posterior.mean, -1.0)),
        "latents": latents,
        "reconstruction": autoencoder.decode(latents).clamp(-1, 1),
        "generated": images.flip(0).roll(3, dims=-1),
        "autoencoder": autoencoder,
    }


def batch_of(everything: dict[str, object], indices: list[int]) -> EvaluationBatch:
    chosen = {
        name: value[indices]
        if isinstance(value, Tensor)
        else Posterior(mean=value.mean[indices], logvar=value.logvar[indices])
        if isinstance(value, Posterior)
        else value
        for name, value in everything.items()
    }
    return EvaluationBatch(indices=indices, **chosen)


def numbers(results: list[EvalResult]) -> dict[str, EvalResult]:
    return {result.metric: result for result in results if result.value is not None}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_every_number_keeps_what_its_samples_give(spec, pooling) -> None:
    """Means: the mean of the kept values, and scipy's standard error. Sets: the evaluator's own number of the other
    groups. On two ranks the same as on one."""
    everything = fields(pooling)
    evaluator = spec.build(BuildContext())
    for start in range(0, COUNT, 4):
        evaluator.update(batch_of(everything, list(range(start, start + 4))))
    results = numbers(evaluator.compute())
    ranks = [spec.build(BuildContext()) for _ in range(2)]
    for place, start in enumerate(range(0, COUNT, 4)):
        ranks[place % 2].update(batch_of(everything, list(range(start, start + 4))))
    ranks[0].merge(ranks[1].state())
    merged = numbers(ranks[0].compute())
    assert results
    for name, result in results.items():
        values = result.values
        assert values is not None, name
        assert result.spread is not None, name
        assert merged[name].values.places.tolist() == values.places.tolist()
        np.testing.assert_allclose(merged[name].values.values, values.values, rtol=1e-9, atol=1e-12)
        if values.counts is None:
            assert values.values.mean() == pytest.approx(result.value, rel=1e-6)
            assert values.spread(result.value) == pytest.approx(
                stats.sem(values.values) * ((len(values.values) - 1) / len(values.values)) ** 0.5
            )
            continue
        assert values.counts.sum() == COUNT
    sets = [name for name, result in results.items() if result.values.counts is not None]
    if sets:
        size = len(results[sets[0]].values.places)
        rest = [index for index in range(COUNT) if index % (32 if size == COUNT else size) != 1]
        alone = spec.build(BuildContext())
        alone.update(batch_of(everything, rest))
        again = numbers(alone.compute())
        for name in sets:
            tolerance = {"viv": 0.02, "sliced-wasserstein": 0.2}.get(spec.kind, 1e-6)
            assert results[name].values.values[1] == pytest.approx(again[name].value, rel=tolerance), name


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("kernel", [polynomial_kernel, gaussian_kernel(2.0)])
def test_kernel_distances_without_a_pair(kernel, unbiased) -> None:
    """Against the distance of the sets without the vectors of that place."""
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 9, 5, generator=generator, dtype=torch.float64)
    left_out = mmd_without_each_pair(kernel_sums(kernel, first, second), unbiased=unbiased)
    for place in range(9):
        stays = [index for index in range(9) if index != place]
        expected = mmd_of_sums(kernel_sums(kernel, first[stays], second[stays]), unbiased=unbiased)
        assert left_out[place].item() == pytest.approx(expected, abs=1e-12)
    assert mmd_without_each_pair(kernel_sums(kernel, first, second[:8]), unbiased=unbiased) is None


def test_digests_tell_images_apart() -> None:
    """By place, for images that differ by a grey level, on any number of ranks; nothing where no images are loaded."""
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    whole, first, second = ImageDigests(), ImageDigests(), ImageDigests()
    whole.update(EvaluationBatch(indices=[0, 1, 2, 3], images=images))
    first.update(EvaluationBatch(indices=[2, 3], images=images[2:]))
    second.update(EvaluationBatch(indices=[0, 1], images=images[:2]))
    second.update(EvaluationBatch(indices=[0, 1]))
    first.merge(second.state())
    assert first.digests == whole.digests
    other = ImageDigests()
    images[1, 0, 0, 0] += 3 / 255 if images[1, 0, 0, 0] < 0 else -3 / 255
    other.update(EvaluationBatch(indices=[0, 1, 2, 3], images=images))
    assert [place for place in range(4) if other.digests[place] != whole.digests[place]] == [1]


@pytest.mark.parametrize(
    "spec", [DCTSpectrumSpec(block_size=4), MapSpectrumSpec(), VIVSpec()], ids=lambda spec: spec.kind
)
def test_channels_that_one_image_alone_moves_are_left_out_without_it(spec, pooling) -> None:
    """A channel that is constant but for one image, which is far away: without that image's group, what the evaluator
    itself says of the others, in which the channel is constant and left out."""
    everything = fields(pooling)
    latents = everything["latents"]
    moved = torch.full_like(latents[:, :1], 0.3)
    moved[1] += 1e3 * latents[1, :1]
    everything["latents"] = torch.cat([latents, moved], dim=1)
    everything["posterior"] = None
    evaluator, alone = (spec.build(BuildContext()) for _ in range(2))
    evaluator.update(batch_of(everything, list(range(COUNT))))
    results = numbers(evaluator.compute())
    size = {len(result.values.places) for result in results.values()}.pop()
    alone.update(
        batch_of(everything, [index for index in range(COUNT) if index % (32 if size == COUNT else size) != 1])
    )
    again = numbers(alone.compute())
    assert any("1 of 4" in result.note for result in again.values())
    for name, result in results.items():
        tolerance = 0.05 if spec.kind == "viv" else 1e-6
        assert result.values.values[1] == pytest.approx(again[name].value, rel=tolerance), name
