from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.fft
import skimage.metrics
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.specs.spectra import ChopOffSpec

Evaluate = Callable[..., dict[str, EvalResult]]
Photographs = Callable[[int, int], Tensor]
Noise = Callable[..., Tensor]
Pooling = Callable[[int], Autoencoder]


def scipy_chop(plane: np.ndarray, size: int, kept: int) -> np.ndarray:
    """Keeps ``kept`` coefficients of each block of a plane, counted along the anti-diagonals as JPEG does."""
    cells = sorted(
        ((u, v) for u in range(size) for v in range(size)),
        key=lambda cell: (sum(cell), cell[0] if sum(cell) % 2 else cell[1]),
    )
    out = np.empty_like(plane)
    for top in range(0, plane.shape[0], size):
        for left in range(0, plane.shape[1], size):
            place = np.s_[top : top + size, left : left + size]
            coefficients = scipy.fft.dctn(plane[place], norm="ortho")
            for cell in cells[kept:]:
                coefficients[cell] = 0
            out[place] = scipy.fft.idctn(coefficients, norm="ortho")
    return out


def run(evaluate: Evaluate, autoencoder: Autoencoder, images: Tensor, sizes: Any = None, **fields: Any) -> Any:
    latents = autoencoder.encode(images).mode()
    return evaluate(ChopOffSpec(**fields), sizes, autoencoder, images=images, latents=latents)


def test_curves_are_those_of_a_scipy_loop(photographs: Photographs, pooling: Pooling, evaluate: Evaluate) -> None:
    """Every point of both curves against scipy and skimage.metrics, for an autoencoder that pools by 4."""
    images, autoencoder = photographs(2, 64), pooling(4)
    results = run(evaluate, autoencoder, images, shares=[1, 0.5, 0.125])
    for metric, factor, size in (("chop_off_curve", 4, 8), ("rgb_chop_off_curve", 1, 32)):
        curve = results[metric].curve
        assert list(curve.x) == [1, 0.5, 0.125]
        for share, value in zip(curve.x, curve.y, strict=True):
            expected = []
            for image in images.double():
                small = F.avg_pool2d(image, factor).numpy()
                chopped = np.array([scipy_chop(plane, size, int(share * size**2)) for plane in small])
                decoded = np.clip(chopped.repeat(factor, 1).repeat(factor, 2), -1, 1)
                with np.errstate(divide="ignore"):
                    psnr = skimage.metrics.peak_signal_noise_ratio(image.numpy(), decoded, data_range=2)
                expected.append(min(psnr, 60))
            assert value == pytest.approx(np.mean(expected), abs=1e-4)


def test_an_identity_autoencoder_gives_the_rgb_curve(
    photographs: Photographs, pooling: Pooling, evaluate: Evaluate
) -> None:
    """Latents that are the image: both curves are one, from the cap down, and so are the areas."""
    results = run(evaluate, pooling(1), photographs(2, 32))
    latents, rgb = results["chop_off_curve"].curve, results["rgb_chop_off_curve"].curve
    assert latents.x == rgb.x
    assert latents.y == pytest.approx(rgb.y, abs=1e-4)
    assert latents.y[0] == pytest.approx(60)
    assert list(latents.y) == sorted(latents.y, reverse=True)
    assert results["chop_off_area"].value == pytest.approx(results["rgb_chop_off_area"].value, abs=1e-4)
    assert 20 < results["chop_off_area"].value < 60


def test_latents_that_need_their_high_frequencies_lose_more(
    photographs: Photographs, pooling: Pooling, evaluate: Evaluate
) -> None:
    """The identity, and the identity whose latents carry a checkerboard of signs: the same image, all moved to high
    frequencies. Its area is smaller, its RGB curve the same."""

    class Modulated(type(pooling(1))):  # type: ignore[misc]
        def decode(self, latents: Tensor) -> Tensor:
            height, width = latents.shape[-2:]
            signs = (torch.arange(height)[:, None] + torch.arange(width)[None, :]) % 2
            return latents * (1 - 2 * signs)

        def encode(self, images: Tensor) -> Any:
            return super().encode(self.decode(images))

    images = photographs(2, 32)
    plain, modulated = run(evaluate, pooling(1), images), run(evaluate, Modulated(1), images)
    assert modulated["chop_off_area"].value < plain["chop_off_area"].value - 5
    assert modulated["rgb_chop_off_area"].value == plain["rgb_chop_off_area"].value
    assert modulated["chop_off_curve"].curve.y[0] == pytest.approx(60)


def test_square_shape_reports_the_share_really_kept(
    photographs: Photographs, pooling: Pooling, evaluate: Evaluate
) -> None:
    """A square of half the side keeps a quarter; one of an eighth, of which zigzag would keep 8, keeps 1 of 64."""
    results = run(evaluate, pooling(2), photographs(1, 32), shape="square", shares=[1, 0.5, 0.125])
    assert list(results["chop_off_curve"].curve.x) == [1, 0.25, 1 / 64]
    assert list(results["rgb_chop_off_curve"].curve.x) == [1, 0.25, 1 / 64]


def test_small_latents_take_smaller_blocks(photographs: Photographs, pooling: Pooling, evaluate: Evaluate) -> None:
    """Latents of 4x4: blocks of 4 for them and 32 for RGB, and no share below one of 16 coefficients."""
    results = run(evaluate, pooling(8), photographs(1, 32))
    assert list(results["chop_off_curve"].curve.x) == [1, 0.75, 0.5, 0.25, 0.125, 0.0625]
    assert results["chop_off_area"].spec["block_size"] == 4
    assert results["rgb_chop_off_area"].spec["block_size"] == 32


def test_sides_that_are_not_whole_blocks_are_cropped(
    photographs: Photographs, pooling: Pooling, evaluate: Evaluate
) -> None:
    """Latents of 20x20 against the results of images cropped beforehand to where 16x16 of them come from."""
    images = photographs(2, 40)
    whole, cropped = (run(evaluate, pooling(2), each) for each in (images, images[:, :, :32, :32]))
    assert whole["chop_off_curve"].curve == cropped["chop_off_curve"].curve
    assert whole["rgb_chop_off_curve"].curve == cropped["rgb_chop_off_curve"].curve


def test_batches_and_autocast_do_not_matter(photographs: Photographs, pooling: Pooling, evaluate: Evaluate) -> None:
    """Uneven batches, and bfloat16 autocast, against one batch."""
    images, autoencoder = photographs(5, 32), pooling(2)
    whole = run(evaluate, autoencoder, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = run(evaluate, autoencoder, images)
    others = [run(evaluate, autoencoder, images, sizes) for sizes in ([1, 4], [2, 2, 1])]
    for other in (*others, under_autocast):
        for name, result in whole.items():
            assert other[name].num_samples == 5
            if result.curve is None:
                assert other[name].value == pytest.approx(result.value, abs=1e-6)
            else:
                assert other[name].curve.y == pytest.approx(result.curve.y, abs=1e-6)


def test_clips_are_measured_frame_by_frame(photographs: Photographs, pooling: Pooling, evaluate: Evaluate) -> None:
    """Two clips of two frames against the four frames as images."""
    images = photographs(4, 32)
    clips = images.unflatten(0, (2, 2)).transpose(1, 2)
    of_images, of_clips = run(evaluate, pooling(2), images), run(evaluate, pooling(2), clips)
    assert of_clips["chop_off_curve"].curve.y == pytest.approx(of_images["chop_off_curve"].curve.y, abs=1e-6)
    assert of_clips["rgb_chop_off_curve"].curve.y == pytest.approx(of_images["rgb_chop_off_curve"].curve.y, abs=1e-6)
    assert of_clips["chop_off_curve"].num_samples == 2


def test_what_does_not_fit_is_an_error(noise: Noise, pooling: Pooling, evaluate: Evaluate) -> None:
    """Images that are not larger by the spatial factor; latents too small; a decoder of fixed size; no images."""

    class FixedSize(type(pooling(2))):  # type: ignore[misc]
        def decode(self, latents: Tensor) -> Tensor:
            return latents.new_zeros(len(latents), 3, 64, 64)

    def measure(image_side: int, latent_side: int, autoencoder: Autoencoder) -> None:
        images, latents = noise(1, 3, image_side, image_side), noise(1, 3, latent_side, latent_side)
        evaluate(ChopOffSpec(), None, autoencoder, images=images, latents=latents)

    with pytest.raises(DataError, match="images of 32x32 do not belong to latents of 8x8; expected 16x16"):
        measure(32, 8, pooling(2))
    with pytest.raises(DataError, match="latents of 2x2 are too small"):
        measure(4, 2, pooling(2))
    with pytest.raises(DataError, match=r"to \(1, 3, 64, 64\); expected the images' shape \(1, 3, 16, 16\)"):
        measure(16, 8, FixedSize(2))
    with pytest.raises(DataError, match="no images were evaluated"):
        ChopOffSpec().build(BuildContext()).compute()


@pytest.mark.parametrize(("num_pictures", "sizes", "figures"), [(2, [1, 2], 2), (9, [3], 2), (0, [3], 1)])
def test_figures_are_written(
    num_pictures: int, sizes: list[int], figures: int, photographs: Photographs, pooling: Pooling, tmp_path: Path
) -> None:
    """Files by name and first bytes; without pictures, only the curves. matplotlib's global state stays as it was."""
    settings = dict(mpl.rcParams)
    autoencoder = pooling(2)
    evaluator = ChopOffSpec(num_pictures=num_pictures, shares=[1, 0.25]).build(BuildContext())
    for size in sizes:
        images = photographs(size, 32)
        latents = autoencoder.encode(images).mode()
        evaluator.update(
            EvaluationBatch(indices=range(len(images)), images=images, latents=latents, autoencoder=autoencoder)
        )
    paths = evaluator.draw(tmp_path)
    names = ["chop-off", "chop-off-pictures"][:figures]
    assert [path.name for path in paths] == [f"{name}.{suffix}" for name in names for suffix in ("png", "svg")]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == []
