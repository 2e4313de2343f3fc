from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch
from diffusability.core.errors import DataError
from diffusability.core.numerics.dct import chop
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.specs.spectra import DCTSpectrumSpec
from diffusability.eval.spectra.block_spectrum import CHUNK_OF_CPU, BlockSpectrum
from diffusability.eval.spectra.spectrum import high_frequency_share, log_amplitude_ratio, spectral_gap

Evaluate = Callable[..., dict[str, EvalResult]]
Photographs = Callable[[int, int], Tensor]
Noise = Callable[..., Tensor]
CURVES = ("latent_spectrum_curve", "rgb_pooled_spectrum_curve", "rgb_spectrum_curve")


def zigzag_cells(size: int) -> list[tuple[int, int]]:
    """The walk of the JPEG standard: up and down the anti-diagonals, to the right first."""
    cells = [(0, 0)]
    while len(cells) < size * size:
        u, v = cells[-1]
        if (u + v) % 2 == 0:  # upwards
            cells.append((u + 1, v) if v == size - 1 else (u, v + 1) if u == 0 else (u - 1, v + 1))
        else:  # downwards
            cells.append((u, v + 1) if u == size - 1 else (u + 1, v) if v == 0 else (u + 1, v - 1))
    return cells


def scipy_coefficients(maps: np.ndarray, size: int) -> np.ndarray:
    """Channel by block by frequencies, in plain loops."""
    channels: list[list[np.ndarray]] = [[] for _ in range(maps.shape[1])]
    for sample in maps:
        for channel, plane in enumerate(sample):
            for top in range(0, plane.shape[0] - size + 1, size):
                for left in range(0, plane.shape[1] - size + 1, size):
                    block = plane[top : top + size, left : left + size]
                    channels[channel].append(scipy.fft.dctn(block, type=2, norm="ortho"))
    return np.array(channels)


def scipy_spectrum(maps: np.ndarray, size: int) -> np.ndarray:
    """Log ratio to DC by channel and zigzag index."""
    amplitude = np.abs(scipy_coefficients(maps, size)).mean(1)
    return np.array([[np.log(plane[cell] / plane[0, 0]) for cell in zigzag_cells(size)] for plane in amplitude])


def less_means(maps: np.ndarray, size: int) -> np.ndarray:
    """Whole blocks, each channel less its mean over the set."""
    maps = maps[:, :, : maps.shape[2] // size * size, : maps.shape[3] // size * size]
    return maps - maps.mean((0, 2, 3), keepdims=True)


def scipy_share(maps: np.ndarray, size: int) -> float:
    """Channels to unit variance first, then energies at u + v >= size over those of all but DC."""
    maps = maps[:, :, : maps.shape[2] // size * size, : maps.shape[3] // size * size]
    maps = maps / maps.std((0, 2, 3), keepdims=True)
    energy = (scipy_coefficients(maps, size) ** 2).sum((0, 1))
    high = sum(energy[u, v] for u in range(size) for v in range(size) if u + v >= size)
    return high / (energy.sum() - energy[0, 0])


def values(results: dict[str, EvalResult]) -> dict[str, float | list[float]]:
    return {
        name: result.value if result.curve is None else [*result.curve.y, *result.curve.y_std]
        for name, result in results.items()
    }


@pytest.mark.parametrize(("side", "factor", "size"), [(64, 4, 8), (80, 4, 8), (48, 8, 4)])
def test_curves_and_numbers_are_those_of_a_scipy_loop(
    side: int, factor: int, size: int, photographs: Photographs, noise: Noise, evaluate: Evaluate
) -> None:
    """Every result against scipy: latents of whole blocks, of 20x20 (cropped to 16), of 6x6 (blocks of 4, cropped)."""
    images = photographs(4, side)
    pooled = F.avg_pool2d(images, factor)
    scale = torch.tensor([0.5, 2.0, 7.0, 1.0, 3.0]).view(5, 1, 1)
    latents = (torch.cat([pooled, pooled[:, :2]], 1) + 0.3 * noise(4, 5, *pooled.shape[2:])) * scale + 0.7
    results = evaluate(DCTSpectrumSpec(), images=images, latents=latents)

    expected = [scipy_spectrum(maps.double().numpy(), size) for maps in (latents, pooled, images)]
    for name, spectrum in zip(CURVES, expected, strict=True):
        curve = results[name].curve
        assert list(curve.x) == list(range(size * size))
        np.testing.assert_allclose(curve.y, spectrum.mean(0), atol=1e-5)
        np.testing.assert_allclose(curve.y_std, spectrum.std(0), atol=1e-5)
    gap = (expected[0].mean(0) - expected[1].mean(0))[1:].mean()
    assert results["spectral_gap_raw"].value == pytest.approx(gap, abs=1e-5)
    centred = [scipy_spectrum(less_means(maps.double().numpy(), size), size) for maps in (latents, pooled)]
    gap = (centred[0].mean(0) - centred[1].mean(0))[1:].mean()
    assert results["spectral_gap"].value == pytest.approx(gap, abs=1e-5)
    assert gap > 0.1
    for name, maps in (("high_frequency_share", latents), ("rgb_high_frequency_share", pooled)):
        assert results[name].value == pytest.approx(scipy_share(maps.double().numpy(), size), rel=1e-6)
    assert {result.spec["block_size"] for result in results.values()} == {size}
    assert {result.num_samples for result in results.values()} == {4}


def test_rgb_as_latents_has_no_gap(photographs: Photographs, evaluate: Evaluate) -> None:
    """Pooled images in the place of latents: gap 0 and equal shares, whatever the scale."""
    images = photographs(4, 64)
    results = evaluate(DCTSpectrumSpec(), images=images, latents=5 * F.avg_pool2d(images, 2))
    assert results["spectral_gap"].value == pytest.approx(0, abs=1e-6)
    assert results["high_frequency_share"].value == pytest.approx(results["rgb_high_frequency_share"].value, rel=1e-6)


def test_more_noise_is_more_high_frequency(photographs: Photographs, noise: Noise, evaluate: Evaluate) -> None:
    """Gap and share rise with white noise on RGB-like latents, towards that of white noise, 28 of 63."""
    images = photographs(4, 64)
    pooled = F.avg_pool2d(images, 2)
    results = [
        evaluate(DCTSpectrumSpec(), images=images, latents=pooled + amount * noise(4, 3, 32, 32))
        for amount in (0, 0.03, 0.1, 0.3, 100)
    ]
    gaps = [result["spectral_gap"].value for result in results]
    shares = [result["high_frequency_share"].value for result in results]
    assert gaps == sorted(gaps)
    assert shares == sorted(shares)
    assert gaps[0] == pytest.approx(0, abs=1e-6)
    assert shares[-1] == pytest.approx(28 / 63, abs=0.02)


def test_latents_without_high_frequencies_have_no_share(photographs: Photographs, evaluate: Evaluate) -> None:
    """Latents chopped to the 36 first coefficients, u + v < 8, against a share of 0."""
    images = photographs(2, 64)
    latents = chop(F.avg_pool2d(images, 2).double(), 28 / 64)
    results = evaluate(DCTSpectrumSpec(), images=images, latents=latents)
    assert results["high_frequency_share"].value == pytest.approx(0, abs=1e-20)
    assert all(np.isfinite(results["latent_spectrum_curve"].curve.y))


@settings(max_examples=25)
@given(scale=st.floats(0.01, 100), shift=st.floats(-3, 3), seed=st.integers(0, 99))
def test_the_share_ignores_scale_and_shift_of_channels(scale: float, shift: float, seed: int) -> None:
    """One channel of two changed by an affine map against none changed."""
    maps = torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    changed = maps.clone()
    changed[:, 1] = scale * changed[:, 1] + shift
    shares = []
    for each in (maps, changed):
        spectrum = BlockSpectrum("latents", 8)
        spectrum.update(each)
        shares.append(high_frequency_share(spectrum.energy(), spectrum.variance()))
    assert shares[1] == pytest.approx(shares[0], rel=1e-6)


def test_batches_do_not_matter(photographs: Photographs, noise: Noise, evaluate: Evaluate) -> None:
    """Uneven batches against one batch, exactly: maps are added one by one."""
    images, latents = photographs(5, 32), noise(5, 4, 16, 16)
    whole = values(evaluate(DCTSpectrumSpec(), images=images, latents=latents))
    for sizes in ([1, 4], [2, 2, 1]):
        assert values(evaluate(DCTSpectrumSpec(), sizes, images=images, latents=latents)) == whole


def test_sums_over_several_chunks_are_those_of_single_maps(noise: Noise) -> None:
    """Latents that take three chunks, the last one not full, against one map at a time exactly, and against scipy."""
    latents = noise(2 * CHUNK_OF_CPU // (4 * 64 * 64) + 1, 4, 64, 64)
    at_once, singly = BlockSpectrum("latents", 8), BlockSpectrum("latents", 8)
    at_once.update(latents)
    for latent in latents:
        singly.update(latent[None])
    for sums in ("amplitude", "energy", "variance"):
        assert torch.equal(getattr(at_once, sums)(), getattr(singly, sums)())
    expected = np.abs(scipy_coefficients(latents.double().numpy(), 8)).mean(1)
    np.testing.assert_allclose(at_once.amplitude(), expected, rtol=1e-12)
    assert at_once.num_blocks == len(latents) * 64


def test_autocast_does_not_matter(photographs: Photographs, noise: Noise, evaluate: Evaluate) -> None:
    """Inside bfloat16 autocast against outside, exactly."""
    images, latents = photographs(2, 32), noise(2, 4, 16, 16)
    outside = values(evaluate(DCTSpectrumSpec(), images=images, latents=latents))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert values(evaluate(DCTSpectrumSpec(), images=images, latents=latents)) == outside


def test_frames_of_clips_count_as_images(photographs: Photographs, noise: Noise, evaluate: Evaluate) -> None:
    """Clips whose latents have fewer frames, against all their frames given as images."""
    images, latents = photographs(6, 32), noise(4, 4, 16, 16)
    clips = {
        "images": images.unflatten(0, (2, 3)).transpose(1, 2),
        "latents": latents.unflatten(0, (2, 2)).transpose(1, 2),
    }
    of_clips = evaluate(DCTSpectrumSpec(), **clips)
    spectrum = scipy_spectrum(latents.double().numpy(), 8)
    np.testing.assert_allclose(of_clips["latent_spectrum_curve"].curve.y, spectrum.mean(0), atol=1e-6)
    spectrum = scipy_spectrum(images.double().numpy(), 8)
    np.testing.assert_allclose(of_clips["rgb_spectrum_curve"].curve.y, spectrum.mean(0), atol=1e-6)
    assert {result.num_samples for result in of_clips.values()} == {2}


def test_constant_channels_are_left_out(photographs: Photographs, noise: Noise, evaluate: Evaluate) -> None:
    """Latents with a dead channel and one stuck at a value against the latents without them."""
    images, latents = photographs(2, 32), noise(2, 2, 16, 16)
    dead = torch.zeros(2, 1, 16, 16)
    with_dead = evaluate(DCTSpectrumSpec(), images=images, latents=torch.cat([dead, latents, dead + 0.1], 1))
    assert values(with_dead) == values(evaluate(DCTSpectrumSpec(), images=images, latents=latents))


def test_pure_functions_by_hand() -> None:
    """A block of 2x2: energies and amplitudes small enough to work out."""
    energy = torch.tensor([[[9.0, 1.0], [2.0, 3.0]], [[5.0, 4.0], [0.0, 4.0]]], dtype=torch.float64)
    share = high_frequency_share(energy, torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert share == pytest.approx((3 + 2) / (1 + 2 + 3 + 2 + 2))  # u + v >= 2 is (1, 1)
    assert high_frequency_share(torch.zeros(1, 2, 2), torch.ones(1)) == 0
    log = log_amplitude_ratio(torch.tensor([[[4.0, 2.0], [1.0, 8.0]]], dtype=torch.float64))
    assert log[0].tolist() == pytest.approx(np.log([1, 0.5, 0.25, 2]))
    assert spectral_gap(log, log - torch.tensor([0.0, 0.1, 0.2, 0.6])) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("image_shape", "latent_shape", "message"),
    [
        ((2, 3, 16, 16), (2, 4, 2, 2), "latents of 2x2 are too small for block DCTs"),
        ((2, 3, 36, 32), (2, 4, 8, 8), "images of 36x32 cannot be pooled to latents of 8x8"),
        ((2, 3, 64, 32), (2, 4, 16, 16), "images of 64x32 cannot be pooled to latents of 16x16"),
    ],
)
def test_sizes_that_do_not_fit_are_an_error(
    image_shape: tuple[int, ...], latent_shape: tuple[int, ...], message: str, noise: Noise, evaluate: Evaluate
) -> None:
    """Messages with both sizes."""
    with pytest.raises(DataError, match=message):
        evaluate(DCTSpectrumSpec(), images=noise(*image_shape), latents=noise(*latent_shape))


def test_batches_that_do_not_belong_together_are_an_error(noise: Noise) -> None:
    """Latents of another number of channels, or that need other blocks, than before."""
    for shape, message in (((1, 5, 8, 8), "5 channels; expected 4"), ((1, 4, 4, 4), "need blocks of 4")):
        evaluator = DCTSpectrumSpec().build(BuildContext())
        evaluator.update(EvaluationBatch(indices=[0], images=noise(1, 3, 16, 16), latents=noise(1, 4, 8, 8)))
        with pytest.raises(DataError, match=message):
            evaluator.update(EvaluationBatch(indices=[0], images=noise(1, 3, 16, 16), latents=noise(*shape)))


def test_nothing_to_measure_is_an_error(noise: Noise, evaluate: Evaluate) -> None:
    """No images at all, and latents that are constant."""
    with pytest.raises(DataError, match="no images were evaluated"):
        DCTSpectrumSpec().build(BuildContext()).compute()
    with pytest.raises(DataError, match="the latents are constant in every channel"):
        evaluate(DCTSpectrumSpec(), images=noise(1, 3, 16, 16), latents=torch.ones(1, 4, 8, 8))


def test_the_figure_is_written(photographs: Photographs, noise: Noise, tmp_path: Path) -> None:
    """PNG and SVG by their first bytes; drawing twice gives the same bytes."""
    evaluator = DCTSpectrumSpec().build(BuildContext())
    evaluator.update(EvaluationBatch(indices=[0, 1], images=photographs(2, 32), latents=noise(2, 4, 16, 16)))
    paths = evaluator.draw(tmp_path / "figures")
    assert [path.name for path in paths] == ["dct-spectrum.png", "dct-spectrum.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in paths[1].read_bytes()
    again = evaluator.draw(tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
