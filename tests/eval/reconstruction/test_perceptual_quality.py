"""MS-SSIM, LPIPS and ST-LPIPS of reconstructions."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
import torchmetrics.image
import torchvision
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.errors import DataError
from diffusability.core.perceptual.networks import lpips_network, st_lpips_network
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.eval.specs.reconstruction import LPIPSSpec, MSSSIMSpec, STLPIPSSpec

Evaluate = Callable[..., dict[str, EvalResult]]


@pytest.fixture
def pair(photograph: Tensor) -> tuple[Tensor, Tensor]:
    """Four pieces of a photograph of 176 pixels, and the same with a different amount of noise on each."""
    corners = ((0, 0), (0, 300), (300, 0), (200, 200))
    images = torch.cat([photograph[:, :, row : row + 176, column : column + 176] for row, column in corners])
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return images, (images + noise * torch.tensor([0.02, 0.1, 0.3, 0.6]).view(4, 1, 1, 1)).clamp(-1, 1)


@pytest.fixture
def alexnet(tmp_path: Path) -> Path:
    """torchvision's AlexNet with random weights, as a file."""
    torch.manual_seed(0)
    path = tmp_path / "alexnet-owt-7be5be79.pth"
    torch.save(torchvision.models.alexnet().state_dict(), path)
    return path


def test_ms_ssim_is_torchmetrics_metric(pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """The metric class over the whole set at once, as its users call it (images in [0, 1]), against uneven batches;
    clips count their frames."""
    images, reconstruction = pair
    metric = torchmetrics.image.MultiScaleStructuralSimilarityIndexMeasure(data_range=1.0)
    expected = metric((reconstruction + 1) / 2, (images + 1) / 2).item()
    result = evaluate(MSSSIMSpec(), [1, 3], images=images, reconstruction=reconstruction)["ms_ssim"]
    # In float32 a variance is known to eps, which counts twice against C2 = 9e-4, at each of the 11 x 11 places of
    # three channels and four images of the coarsest scale, with either sign; finer scales have more places.
    rounding = 2 * float(np.finfo(np.float32).eps) / 9e-4 / (11 * 11 * 3 * 4) ** 0.5
    assert result.value == pytest.approx(expected, abs=rounding)
    assert (result.higher_is_better, result.num_samples) == (True, 4)
    clips = [tensor.unflatten(0, (2, 2)).transpose(1, 2) for tensor in pair]
    of_clips = evaluate(MSSSIMSpec(), images=clips[0], reconstruction=clips[1])["ms_ssim"]
    assert of_clips.value == pytest.approx(expected, abs=rounding)
    assert of_clips.num_samples == 2


def with_windows_that_fit(image: Tensor, other: Tensor) -> float:
    """MS-SSIM of intensities as pytorch_msssim computes it, by scipy: windows that fit at every scale, each channel's
    product by itself, their mean."""

    def window(x: np.ndarray) -> np.ndarray:
        return scipy.ndimage.gaussian_filter(x, 1.5, radius=5, axes=(1, 2))[:, 5:-5, 5:-5]

    x, y = ((part.double().numpy() + 1) / 2 for part in (image, other))
    product = np.ones(len(x))
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean_x, mean_y = window(x), window(y)
        variances = window(x * x) - mean_x**2 + window(y * y) - mean_y**2
        part = (2 * (window(x * y) - mean_x * mean_y) + 9e-4) / (variances + 9e-4)
        if scale == 4:
            part *= (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
        product *= np.maximum(part.mean((1, 2)), 0) ** weight
        even = x.shape[1] // 2 * 2
        x, y = (z[:, :even, :even].reshape(len(z), even // 2, 2, even // 2, 2).mean((2, 4)) for z in (x, y))
    return float(product.mean())


def test_ms_ssim_is_near_that_of_windows_that_fit(pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """pytorch_msssim's convention differs at borders of the coarsest scale and in how channels are joined; contrast and
    offsets count alike."""
    images, noisy = pair
    for other in (noisy, 0.9 * images, 0.8 * images + 0.2):
        expected = [with_windows_that_fit(a, b) for a, b in zip(images, other, strict=True)]
        result = evaluate(MSSSIMSpec(), images=images, reconstruction=other)["ms_ssim"]
        assert result.value == pytest.approx(np.mean(expected), abs=0.005)
        assert result.spec["data_range"] == 1.0
    around_zero = torchmetrics.functional.image.multiscale_structural_similarity_index_measure(
        other, images, data_range=2.0
    )
    assert result.value - around_zero.item() > 0.05


def test_images_too_small_for_five_scales_are_an_error(evaluate: Evaluate) -> None:
    """175 pixels are too few, 176 are enough."""
    images = torch.zeros(1, 3, 175, 200)
    with pytest.raises(DataError, match="at least 176 pixels a side, got 175x200; use ssim"):
        evaluate(MSSSIMSpec(), images=images, reconstruction=images)
    images = torch.zeros(1, 3, 176, 176)
    assert evaluate(MSSSIMSpec(), images=images, reconstruction=images)["ms_ssim"].value == pytest.approx(1)


def test_lpips_is_the_mean_of_the_networks_distances(
    pair: tuple[Tensor, Tensor], alexnet: Path, evaluate: Evaluate
) -> None:
    """The fixed network of the core, which is held against the package ``lpips`` there, image by image; its trunk has
    random weights here. The result names their digest."""
    images, reconstruction = (tensor[:, :, :64, :64] for tensor in pair)
    distance = lpips_network("alex", alexnet)
    expected = [distance(a[None], b[None]).item() for a, b in zip(images, reconstruction, strict=True)]
    result = evaluate(LPIPSSpec(weights=alexnet), [3, 1], images=images, reconstruction=reconstruction)["lpips"]
    assert result.value == pytest.approx(sum(expected) / 4, rel=1e-4)
    assert result.higher_is_better is False
    assert result.spec == {
        "network": "alex",
        "version": "0.1",
        "weights": hashlib.sha256(alexnet.read_bytes()).hexdigest()[:16],
    }


def test_missing_weights_of_lpips_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything starts: the file, its size, where it is published, and where it goes."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for network, name, size in (("alex", "alexnet-owt-7be5be79.pth", 233), ("vgg", "vgg16-397923af.pth", 528)):
        spec = EvaluatorSpec.model_validate({"kind": "lpips", "network": network})
        with pytest.raises(
            ValueError, match=rf"'{name}' \({size} MiB\).* download it from https://.*{name} to '{tmp_path}"
        ):
            spec.check_inputs()


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_st_lpips_is_the_mean_of_the_networks_distances(
    network: str, pair: tuple[Tensor, Tensor], evaluate: Evaluate
) -> None:
    """The fixed network of the core, which is held against its package there, image by image; the least disturbed image
    is the nearest, equal ones are at 0."""
    images, reconstruction = (tensor[:, :, :32, :32] for tensor in pair)
    spec = STLPIPSSpec.model_validate({"kind": "st-lpips", "network": network})
    metric = "st_lpips" if network == "alex" else "st_lpips_vgg"
    distance = st_lpips_network(network)  # type: ignore[arg-type]
    expected = [distance(a[None], b[None]).item() for a, b in zip(images, reconstruction, strict=True)]
    result = evaluate(spec, [3, 1], images=images, reconstruction=reconstruction)[metric]
    assert result.value == pytest.approx(sum(expected) / 4, rel=1e-4)
    assert expected[0] == min(expected)
    assert evaluate(spec, images=images, reconstruction=images)[metric].value == pytest.approx(0, abs=1e-6)


def test_images_that_do_not_suit_are_errors(evaluate: Evaluate) -> None:
    """Too small for the network; four channels."""
    for shape, message in (((1, 3, 8, 8), "at least 21 pixels a side, got 8x8"), ((1, 4, 32, 32), "1 or 3 channels")):
        images = torch.zeros(shape)
        with pytest.raises(DataError, match=message):
            evaluate(STLPIPSSpec(), images=images, reconstruction=images)


def test_spread_is_the_bootstraps(pair: tuple[Tensor, Tensor], evaluate: Evaluate) -> None:
    """Against 4,000 bootstrap samples of the images' distances; no spread of a single image."""
    images, reconstruction = (tensor[:, :, :32, :32] for tensor in pair)
    values = st_lpips_network("alex")(images, reconstruction).double()
    draws = torch.randint(4, (4000, 4), generator=torch.Generator().manual_seed(0))
    bootstrap = values[draws].mean(1).std().item()
    result = evaluate(STLPIPSSpec(), images=images, reconstruction=reconstruction)["st_lpips"]
    assert result.spread == pytest.approx(bootstrap, rel=0.05)
    assert evaluate(STLPIPSSpec(), images=images[:1], reconstruction=images[:1])["st_lpips"].spread is None


def test_two_networks_may_be_used_in_one_stage() -> None:
    """Names of the same kind with different networks differ."""
    assert LPIPSSpec().distinct_name() != LPIPSSpec(network="vgg").distinct_name()
    assert STLPIPSSpec().distinct_name() != STLPIPSSpec(network="vgg").distinct_name()
