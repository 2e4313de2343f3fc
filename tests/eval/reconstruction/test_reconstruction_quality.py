from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.metrics
import torch
import torchmetrics.image
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.eval.reconstruction.psnr import psnr_per_image
from diffusability.eval.specs.reconstruction import PSNRSpec, SSIMSpec
from diffusability.models.specs.autoencoders.taesd import TaesdSpec

TAEF2 = Path(__file__).resolve().parents[4] / "shared" / "data" / "taef2"

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


def test_psnr_is_that_of_pixels_from_0_to_1_and_of_bytes(pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """The range does not matter to PSNR: scikit-image on bytes, at its default range of uint8, where the reconstruction
    is made of bytes too; torchmetrics image by image, since its default is the PSNR of the set's mean error."""
    images, reconstruction = (((part + 1) * 127.5).round().to(torch.uint8) for part in pair)
    by_skimage = [
        skimage.metrics.peak_signal_noise_ratio(a.numpy(), b.numpy())
        for a, b in zip(images, reconstruction, strict=True)
    ]
    prepared = [part.double() / 127.5 - 1 for part in (images, reconstruction)]
    result = evaluate(PSNRSpec(), images=prepared[0], reconstruction=prepared[1])["psnr"]
    # Pixels in [-1, 1] are rounded to 1e-16 and the error's mean square adds n of them: 1e-12 of it, 4e-12 dB.
    assert result.value == pytest.approx(np.mean(by_skimage), abs=1e-10)
    metric = torchmetrics.image.PeakSignalNoiseRatio(data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3))
    assert result.value == pytest.approx(metric(*((part + 1) / 2 for part in prepared[::-1])).item(), abs=1e-4)


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


#: Of two computations of SSIM in float64 on the same intensities. A variance is the difference of a mean of squares and
#: a squared mean, of numbers up to 1, each a sum of 11 + 11 products: known to 50 eps, which counts against C2 = 9e-4.
SAME_SSIM = 2 * 50 * np.finfo(np.float64).eps / 9e-4


def intensities(images: Tensor) -> Tensor:
    """In [0, 1]: rounded to float32, as the evaluator's input is, and then exact."""
    return ((images.float() + 1) / 2).double()


def skimages_ssim(images: Tensor, others: Tensor) -> list[float]:
    """SSIM of each pair by scikit-image with Wang's settings, as its users call it: on images in [0, 1]."""
    return [
        skimage.metrics.structural_similarity(
            intensities(a).numpy(),
            intensities(b).numpy(),
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(images, others, strict=True)
    ]


def test_ssim_is_scikit_images(pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """The mean over images of skimage.metrics' SSIM: equal with windows that fit, near with reflected borders, whose
    windows are a share of those of all pixels."""
    images, reconstruction = pair
    expected = skimages_ssim(images, reconstruction)
    assert 0.1 < np.min(expected) < np.max(expected) < 0.999
    valid = evaluate(SSIMSpec(border="valid"), images=images, reconstruction=reconstruction)["ssim"]
    assert valid.value == pytest.approx(np.mean(expected), abs=SAME_SSIM)
    assert (valid.spec["data_range"], valid.spec["border"]) == (1.0, "valid")
    reflected = evaluate(SSIMSpec(), images=images, reconstruction=reconstruction)["ssim"]
    assert reflected.spec["border"] == "reflect"
    assert 1e-5 < abs(reflected.value - np.mean(expected)) < 0.01


def test_ssim_is_torchmetrics_metric(pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """The metric class over the whole set at once, as its users call it, on images in [0, 1]; in float64, since in
    float32 its variances are known to 1e-7, which is 1e-4 of C2."""
    images, reconstruction = pair
    metric = torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=1.0).set_dtype(torch.float64)
    expected = metric(intensities(reconstruction), intensities(images)).item()
    assert evaluate(SSIMSpec(), [2, 3], images=images, reconstruction=reconstruction)["ssim"].value == pytest.approx(
        expected, abs=SAME_SSIM
    )


@pytest.mark.parametrize("change", [lambda x: 0.9 * x, lambda x: x - 0.1, lambda x: x + 0.1, lambda x: -x])
def test_changes_of_light_and_contrast_count_as_scikit_image_has_them(
    change: Callable[[Tensor], Tensor], photographs: Callable[[int, int], Tensor], evaluate: Evaluate
) -> None:
    """Less contrast, offsets, a negative. Around 0 the luminance term would mistake their sizes."""
    images = photographs(3, 48) * 0.85
    other = change(images)
    result = evaluate(SSIMSpec(border="valid"), images=images, reconstruction=other)["ssim"]
    assert result.value == pytest.approx(np.mean(skimages_ssim(images, other)), abs=SAME_SSIM)


def test_a_constant_offset_has_a_closed_form(evaluate: Evaluate) -> None:
    """Two even greys of intensities a and b: ``(2ab + C1) / (a^2 + b^2 + C1)``, with C1 = 1e-4."""
    for first, second in ((-1.0, -0.8), (0.0, 0.1), (0.8, 1.0)):
        images = torch.full((1, 3, 12, 12), first)
        a, b = (intensities(torch.tensor(grey)).item() for grey in (first, second))
        result = evaluate(SSIMSpec(), images=images, reconstruction=torch.full_like(images, second))["ssim"]
        assert result.value == pytest.approx((2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4), abs=SAME_SSIM)


@pytest.mark.skipif(not TAEF2.is_dir(), reason="the published weights are not here")
def test_ssim_of_a_published_autoencoder_is_scikit_images(
    photographs: Callable[[int, int], Tensor], evaluate: Evaluate
) -> None:
    """TAEF2 on crops of photographs: its SSIM as others would publish it."""
    autoencoder = TaesdSpec(
        latent_channels=32,
        pooled_mid_blocks=True,
        encoder=TAEF2 / "encoder.safetensors",
        decoder=TAEF2 / "decoder.safetensors",
    ).build(BuildContext())
    images = photographs(6, 128)
    with torch.no_grad():
        reconstruction = autoencoder.decode(autoencoder.encode(images).mode()).clamp(-1, 1)
    expected = skimages_ssim(images, reconstruction)
    result = evaluate(SSIMSpec(border="valid"), images=images, reconstruction=reconstruction)["ssim"]
    assert result.value == pytest.approx(np.mean(expected), abs=SAME_SSIM)
    reflected = evaluate(SSIMSpec(), images=images, reconstruction=reconstruction)["ssim"]
    assert reflected.value == pytest.approx(np.mean(expected), abs=0.005)
    assert 0.85 < np.mean(expected) < 0.95


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
