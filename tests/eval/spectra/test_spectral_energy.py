import numpy as np
import pytest
import torch
from scipy.fft import dctn

from diffusability.core.numerics.dct import dct2, idct2
from diffusability.eval.spectra.spectral_energy import radial_profile, spectral_energy_concentration, spectral_slope


def test_concentration_is_the_share_above_the_threshold():
    """Against scipy's DCT and loops, for a map that is not square."""
    latents = torch.randn(5, 2, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    energy = np.mean(dctn(latents.numpy(), axes=(2, 3), norm="ortho") ** 2, axis=(0, 1))
    high = sum(energy[u, v] for u in range(6) for v in range(9) if u + v > 0.25 * 13)
    ours = spectral_energy_concentration(dct2(latents).square().mean((0, 1)), 0.25)
    assert ours == pytest.approx(high / energy.sum(), rel=1e-12)


def test_smooth_maps_concentrate_nothing_at_high_frequencies():
    assert spectral_energy_concentration(dct2(torch.ones(4, 4, dtype=torch.float64)).square(), 0.25) < 1e-28


def test_radial_means_are_taken_over_rings():
    """Against loops over all coefficients."""
    amplitude = torch.rand(2, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    frequencies, profile = radial_profile(amplitude)
    rings: dict[int, list[torch.Tensor]] = {}
    for u in range(6):
        for v in range(8):
            radius = ((u / 12) ** 2 + (v / 16) ** 2) ** 0.5
            rings.setdefault(round(radius * 16), []).append(amplitude[:, u, v])
    assert frequencies == [ring / 16 for ring in sorted(rings)]
    expected = torch.stack([torch.stack(rings[ring]).mean(0) for ring in sorted(rings)], dim=1)
    assert torch.allclose(profile, expected)


@pytest.mark.parametrize("exponent", [0.0, -1.0, -2.0])
def test_the_slope_of_a_power_law_is_its_exponent(exponent):
    """Closed form, on amplitudes that follow the law exactly."""
    frequencies = [index / 32 for index in range(24)]
    amplitude = torch.tensor([1.0, *[frequency**exponent for frequency in frequencies[1:]]], dtype=torch.float64)
    assert spectral_slope(frequencies, amplitude) == pytest.approx(exponent, abs=1e-12)


def test_white_noise_is_flat_and_its_integral_is_not():
    """Statistics: white noise has slope 0, noise filtered by 1/f has -1."""
    noise = torch.randn(400, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    u = torch.arange(32, dtype=torch.float64)
    radius = (u[:, None].square() + u.square()).sqrt().clamp_min(1)
    for maps, exponent in ((noise, 0.0), (idct2(dct2(noise) / radius), -1.0)):
        frequencies, profile = radial_profile(dct2(maps).abs().mean(0))
        assert spectral_slope(frequencies, profile[0]) == pytest.approx(exponent, abs=0.05)
