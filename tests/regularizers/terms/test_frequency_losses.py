"""Losses on frequencies, each against scipy's DCT."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import torch
import torch.nn.functional as F
from torch import Tensor
from toy_autoencoders import Identity, LinearConvolutions

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TrainTask
from diffusability.core.specs.build_context import BuildContext
from diffusability.regularizers.specs.frequency_chop import FrequencyChopSpec
from diffusability.regularizers.specs.spectrum_matching import SpectrumMatchingSpec
from diffusability.regularizers.terms.frequency_chop import frequency_chop_loss
from diffusability.regularizers.terms.high_frequency_penalty import high_frequency_penalty
from diffusability.regularizers.terms.spectral_masking import low_pass, spectral_masking_loss
from diffusability.regularizers.terms.spectrum_matching import radial_power, spectrum_matching_loss

Task = Callable[..., TrainTask]
MakeBatch = Callable[..., Batch]
Noise = Callable[..., Tensor]


def dct(maps: np.ndarray) -> np.ndarray:
    return scipy.fft.dctn(maps, axes=(-2, -1), norm="ortho")


def idct(maps: np.ndarray) -> np.ndarray:
    return scipy.fft.idctn(maps, axes=(-2, -1), norm="ortho")


def enlarged(latents: Tensor) -> Tensor:
    """A decoder of no weights: three channels, twice the size."""
    return F.interpolate(latents[:, :3], scale_factor=2, mode="nearest")


def test_the_penalty_is_the_weighted_mean_of_amplitudes(noise: Noise) -> None:
    """8x8 blocks by slicing, scipy's DCT and the weights of the formula."""
    latents = noise(2, 3, 16, 8)
    u = np.arange(8) / 7
    weights = (u[:, None] + u[None, :]) ** 2 / 4
    blocks = [latents[:, :, row : row + 8].numpy() for row in (0, 8)]
    expected = np.mean([np.abs(dct(block)) * weights for block in blocks])
    assert high_frequency_penalty(latents).item() == pytest.approx(expected, rel=1e-10)


def test_constant_blocks_cost_nothing_and_the_highest_frequency_most(noise: Noise) -> None:
    """Zero for DC alone; a checkerboard's corner coefficient against its own weight, 1 for p = 2."""
    assert high_frequency_penalty(torch.full((1, 2, 8, 8), 3.0)).item() == pytest.approx(0, abs=1e-6)
    corner = np.zeros((8, 8))
    corner[7, 7] = 64.0
    latents = torch.from_numpy(idct(corner))[None, None]
    assert high_frequency_penalty(latents).item() == pytest.approx(1.0, rel=1e-6)
    assert high_frequency_penalty(latents, power=3.0).item() == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.8])
def test_chopping_removes_the_same_share_from_both(ratio: float, noise: Noise) -> None:
    """Square chop: scipy's DCT of the 8x8 latents and of the 16x16 images, low squares kept, decoded and compared."""
    images, latents = noise(1, 3, 16, 16), noise(1, 4, 8, 8, seed=1)

    def low(maps: Tensor) -> Tensor:
        coefficients = dct(maps.numpy())
        side = int((1 - ratio) * maps.shape[-1] + 1e-9)
        coefficients[..., side:, :] = 0
        coefficients[..., :, side:] = 0
        return torch.from_numpy(idct(coefficients))

    loss = frequency_chop_loss(images, latents, enlarged, F.mse_loss, ratio=ratio, shape="square")
    torch.testing.assert_close(loss, F.mse_loss(enlarged(low(latents)), low(images)))


def test_the_chopped_share_is_drawn_from_the_whole_range(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """Over steps, the shares that a real task draws: within the range, and spread over it; equal on another rank."""
    spec = FrequencyChopSpec(max_ratio=0.6)
    fractions = [0.6 * batch_of(noise(1, 1, 1, 1), step).randomness.fraction("frequency-chop") for step in range(200)]
    assert 0 <= min(fractions) < 0.05
    assert 0.55 < max(fractions) < 0.6
    task, images = task_of(LinearConvolutions()), noise(2, 3, 16, 16)
    regularizer = spec.build(BuildContext())
    output = task.objective(batch_of(images, 3))
    expected = frequency_chop_loss(
        images, output.latents, task.objective.autoencoder.decode, task.objective.reconstruction_loss,
        ratio=fractions[3],
    )  # fmt: skip
    torch.testing.assert_close(regularizer(output, task.objective), expected)
    assert regularizer(output, task.objective) != regularizer(task.objective(batch_of(images, 4)), task.objective)


def test_autoencoders_that_are_equivariant_pay_nothing(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """The identity, of images and of clips, against 0 up to rounding."""
    task = task_of(Identity())
    specs = (FrequencyChopSpec(), SpectrumMatchingSpec(match="decoding"))
    for images in (noise(2, 3, 16, 8), noise(2, 3, 3, 8, 8)):
        output = task.objective(batch_of(images))
        for spec in specs:
            assert spec.build(BuildContext())(output, task.objective).item() == pytest.approx(0, abs=1e-12)


def power_by_hand(maps: np.ndarray, bins: int) -> np.ndarray:
    """Mean power in rings of DCT coefficients, with loops."""
    centred = maps - maps.mean((-2, -1), keepdims=True)
    power = (dct(centred) ** 2).mean(1)
    height, width = maps.shape[-2:]
    largest = np.hypot(height - 1, width - 1)
    sums, counts = np.zeros((len(maps), bins)), np.zeros(bins)
    for u in range(height):
        for v in range(width):
            ring = min(int(np.hypot(u, v) / largest * bins), bins - 1)
            sums[:, ring] += power[:, u, v]
            counts[ring] += 1
    return sums / np.maximum(counts, 1)


def test_radial_power_is_the_mean_over_rings(noise: Noise) -> None:
    """Loops over coefficients with scipy's DCT, for a map that is not square."""
    maps = noise(3, 2, 8, 12)
    np.testing.assert_allclose(radial_power(maps, 6).numpy(), power_by_hand(maps.numpy(), 6), rtol=1e-9)


def test_spectrum_matching_is_the_divergence_of_log_spectra(noise: Noise) -> None:
    """Images twice as large as latents: F.interpolate with antialiasing, then numpy throughout."""
    images, latents = noise(2, 3, 16, 16), noise(2, 5, 8, 8, seed=1)
    loss = spectrum_matching_loss(images, latents, num_bins=5, flattening=0.7)
    small = F.interpolate(images, (8, 8), mode="bilinear", antialias=True).numpy()

    def shares(power: np.ndarray) -> np.ndarray:
        logs = np.log1p(power)
        return logs / logs.sum(1, keepdims=True)

    p = shares(power_by_hand(small, 5) * np.arange(1, 6) ** 0.7)
    q = shares(power_by_hand(latents.numpy(), 5))
    assert loss.item() == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-5)


def test_equal_spectra_cost_nothing_and_white_latents_something(noise: Noise) -> None:
    """Latents that are the image, and noise against a smooth image."""
    smooth = noise(2, 3, 8, 8).cumsum(-1).cumsum(-2) / 8
    assert spectrum_matching_loss(smooth, smooth, flattening=0.0).item() == pytest.approx(0, abs=1e-9)
    assert spectrum_matching_loss(smooth, noise(2, 3, 8, 8, seed=1), flattening=0.0).item() > 0.01


def test_spectra_of_clips_are_those_of_their_frames(noise: Noise) -> None:
    """Latents of three frames and images of five: frames 0, 2 and 4 as three images."""
    clips, latents = noise(1, 3, 5, 8, 8), noise(1, 2, 3, 4, 4, seed=1)
    loss = spectrum_matching_loss(clips, latents, num_bins=4)
    frames = [spectrum_matching_loss(clips[:, :, 2 * t], latents[:, :, t], num_bins=4) for t in range(3)]
    torch.testing.assert_close(loss, torch.stack(frames).mean())


def test_masking_keeps_the_same_waves_of_latents_and_images(noise: Noise) -> None:
    """Cosines of equal numbers of waves on an 8x8 and a 16x16 map: kept or removed together."""
    for waves, kept in ((1, True), (3, True), (6, False)):
        for side in (8, 16):
            coefficients = np.zeros((side, side))
            coefficients[waves, 0] = 1.0
            wave = torch.from_numpy(idct(coefficients))[None, None]
            left = low_pass(wave, (8, 8), cutoff=0.5)  # radius 0.5 * sqrt(98) = 4.95
            torch.testing.assert_close(left, wave if kept else torch.zeros_like(wave), rtol=0, atol=1e-12)


def test_gradients_of_the_smooth_losses(noise: Noise) -> None:
    """Autograd against finite differences in float64."""
    images, latents = noise(1, 3, 8, 8), noise(1, 4, 4, 4, seed=1).requires_grad_()
    cases: list[Callable[[Tensor], Tensor]] = [
        lambda z: spectrum_matching_loss(images, z, num_bins=4),
        lambda z: frequency_chop_loss(images, z, enlarged, F.mse_loss, ratio=0.4, block_size=4),
        lambda z: spectral_masking_loss(images, z, enlarged, F.mse_loss, cutoff=0.6),
        lambda z: high_frequency_penalty(z, block_size=4),
    ]
    for loss in cases:
        assert torch.autograd.gradcheck(loss, (latents,))
