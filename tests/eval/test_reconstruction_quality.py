from collections.abc import Callable

import numpy as np
import pytest
import skimage.metrics
import torch
import torchmetrics.image
from torch import Tensor

from diffusability.core.build import BuildContext
from diffusability.core.errors import DataError
from diffusability.core.evaluator import EvalResult
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.eval.psnr import psnr_per_image
from diffusability.eval.specs import PSNRSpec, SSIMSpec

Evaluate = Callable[..., dict[str, EvalResult]]


@pytest.fixture
def pair(photographs: Callable[[int, int], Tensor]) -> tuple[Tensor, Tensor]:
    """Five photographs, and the same with a different amount of noise on each."""
    images = photographs(5, 64)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return images, (images + noise * torch.tensor([0.01, 0.03, 0.1, 0.3, 0.6]).view(5, 1, 1, 1)).clamp(-1, 1)


def test_psnr_is_the_mean_of_scikit_images(pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """The mean over images of skimage.metrics' PSNR, which is not the PSNR of the mean error."""
    images, reconstruction = pair
    expected = [
        skimage.metrics.peak_signal_noise_ratio(a.double().numpy(), b.double().numpy(), data_range=2)
        for a, b in zip(images, reconstruction, strict=True)
    ]
    result = evaluate(PSNRSpec(), images=images, reconstruction=reconstruction)["psnr"]
    assert result.value == pytest.approx(np.mean(expected), abs=1e-9)
    assert (result.unit, result.higher_is_better, result.num_samples) == ("dB", True, 5)
    of_mean_error = 10 * np.log10(4 / (images - reconstruction).square().mean().item())
    assert abs(of_mean_error - np.mean(expected)) > 1


def test_psnr_of_a_known_error() -> None:
    """An error of 0.02 everywhere at range 2 is 40 dB; no error is infinite."""
    images = torch.zeros(2, 3, 4, 4)
    other = images.clone()
    other[0] += 0.02
    values = psnr_per_image(images, other)
    assert values[0].item() == pytest.approx(40, abs=1e-5)
    assert values[1].item() == float("inf")


def test_psnr_of_a_perfect_reconstruction_is_finite(pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """Equal images, which would be infinite, against the cap that the result's spec states."""
    result = evaluate(PSNRSpec(), images=pair[0], reconstruction=pair[0])["psnr"]
    assert result.value == result.spec["max_psnr"]


def test_ssim_is_scikit_images(pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """The mean over images of skimage.metrics' SSIM with Wang's settings; borders are treated differently there."""
    images, reconstruction = pair
    expected = [
        skimage.metrics.structural_similarity(
            a.double().numpy(),
            b.double().numpy(),
            channel_axis=0,
            data_range=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(images, reconstruction, strict=True)
    ]
    result = evaluate(SSIMSpec(), images=images, reconstruction=reconstruction)["ssim"]
    assert 0.1 < np.min(expected) < np.max(expected) < 0.999
    assert result.value == pytest.approx(np.mean(expected), abs=0.01)


def test_ssim_is_torchmetrics_metric(pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """The metric class over the whole set at once."""
    images, reconstruction = pair
    metric = torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=2.0)
    expected = metric(reconstruction, images).item()
    assert evaluate(SSIMSpec(), [2, 3], images=images, reconstruction=reconstruction)["ssim"].value == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("spec", [PSNRSpec(), SSIMSpec()])
def test_batches_do_not_matter(spec: EvaluatorSpec, pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """Uneven batches against one batch."""
    images, reconstruction = pair
    whole = evaluate(spec, images=images, reconstruction=reconstruction)
    for sizes in ([1, 4], [2, 2, 1]):
        parts = evaluate(spec, sizes, images=images, reconstruction=reconstruction)
        assert {name: r.value for name, r in parts.items()} == pytest.approx(
            {name: r.value for name, r in whole.items()}, abs=1e-7
        )
        assert all(result.num_samples == 5 for result in parts.values())


@pytest.mark.parametrize("spec", [PSNRSpec(), SSIMSpec()])
def test_every_frame_of_a_clip_counts(spec: EvaluatorSpec, pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """Two clips of two frames against the four frames as images; two samples were seen."""
    images, reconstruction = (tensor[:4] for tensor in pair)
    clips = [tensor.unflatten(0, (2, 2)).transpose(1, 2) for tensor in (images, reconstruction)]
    (of_images,) = evaluate(spec, images=images, reconstruction=reconstruction).values()
    (of_clips,) = evaluate(spec, images=clips[0], reconstruction=clips[1]).values()
    assert of_clips.value == pytest.approx(of_images.value, abs=1e-7)
    assert of_clips.num_samples == 2


@pytest.mark.parametrize("spec", [PSNRSpec(), SSIMSpec()])
def test_autocast_does_not_matter(spec: EvaluatorSpec, pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """Inside bfloat16 autocast against outside."""
    images, reconstruction = pair
    (outside,) = evaluate(spec, images=images, reconstruction=reconstruction).values()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (inside,) = evaluate(spec, images=images, reconstruction=reconstruction).values()
    assert inside.value == outside.value


def test_bfloat16_images_are_measured_in_full_precision(evaluate: Evaluate) -> None:
    """An error that bfloat16 could not square and average: 2^-8 at 1, against the closed form."""
    images = torch.ones(1, 3, 16, 16, dtype=torch.bfloat16)
    other = images.clone()
    other[0, 0, 0, 0] = 1 - 2**-8
    result = evaluate(PSNRSpec(), images=images, reconstruction=other)["psnr"]
    assert result.value == pytest.approx(10 * np.log10(4 * 768 * 2**16), abs=1e-9)


def test_images_smaller_than_the_window_are_an_error(evaluate: Evaluate) -> None:
    """Ten pixels are too few for SSIM; eleven are enough."""
    images = torch.zeros(1, 3, 10, 64)
    with pytest.raises(DataError, match="at least 11x11 pixels, got 10x64"):
        evaluate(SSIMSpec(), images=images, reconstruction=images)
    images = torch.zeros(1, 3, 11, 11)
    assert evaluate(SSIMSpec(), images=images, reconstruction=images)["ssim"].value == pytest.approx(1)


@pytest.mark.parametrize("spec", [PSNRSpec(), SSIMSpec()])
def test_no_images_is_an_error(spec: EvaluatorSpec) -> None:
    """Computing before any update."""
    with pytest.raises(DataError, match="no images were evaluated"):
        spec.build(BuildContext()).compute()
