"""Single measures as functions: against the evaluators, scipy and numpy."""

import pytest
import torch
from scipy import linalg
from scipy.fft import dctn
from toy_autoencoders import LinearConvolutions

from diffusability.core import DataError, SpecError, chop_off, frechet, latent_spectrum, score


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.interpolate(
        torch.rand(6, 3, 8, 8, generator=generator) * 2 - 1, size=32, mode="bilinear"
    )


def pooled(images):
    return images.mean((2, 3)).double()


def test_the_high_frequency_share_is_that_of_scipys_transform():
    """One channel, blocks of 8 by hand: energy at u + v >= 8 over all but DC."""
    latents = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    high = total = 0.0
    for latent in latents[:, 0].double().numpy():
        for row in (0, 8):
            for column in (0, 8):
                energy = dctn(latent[row : row + 8, column : column + 8], norm="ortho") ** 2
                total += energy.sum() - energy[0, 0]
                high += sum(energy[u, v] for u in range(8) for v in range(8) if u + v >= 8)
    assert latent_spectrum(latents).high_frequency_share == pytest.approx(high / total, rel=1e-9)


def test_spectrum_and_chop_off_are_those_of_the_scorecard(images):
    """The same numbers and curves as the evaluators give in ``score``."""
    autoencoder = LinearConvolutions().float()
    with torch.no_grad():
        latents = autoencoder.encode(images).mode()
    card = score(autoencoder, images, evaluators=["dct-spectrum", "chop-off"], precision="fp32")
    spectrum = latent_spectrum(latents, images)
    assert spectrum.high_frequency_share == pytest.approx(card["high_frequency_share"], rel=1e-6)
    assert spectrum.spectral_gap == pytest.approx(card["spectral_gap"], rel=1e-4)
    pooled_curve = card.curves["rgb_pooled_spectrum_curve"]  # the images in another order: sums to rounding
    assert spectrum.images.x == pooled_curve.x
    assert spectrum.images.y == pytest.approx(pooled_curve.y, abs=1e-6)
    assert latent_spectrum(latents).latents.y == pytest.approx(spectrum.latents.y, abs=1e-9)
    curves = chop_off(autoencoder, images, precision="fp32")
    assert curves.latents == card.curves["chop_off_curve"]
    assert curves.area == card["chop_off_area"]
    assert chop_off(autoencoder, images, shares=[1.0, 0.5], precision="fp32").latents.x[0] == 1.0


def test_the_frechet_distance_is_scipys(images):
    """Means and covariances of any function's features, the root of the product by scipy's sqrtm."""
    other = images.flip(3) * 0.5 + 0.1
    first, second = pooled(images).numpy(), pooled(other[:5]).numpy()
    root = linalg.sqrtm(torch.tensor(first).T.cov().numpy() @ torch.tensor(second).T.cov().numpy()).real
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum()
    expected += (torch.tensor(first).T.cov() + torch.tensor(second).T.cov()).numpy().trace() - 2 * root.trace()
    result = frechet(images, other[:5], features=pooled, device="cpu")
    assert result.metric == "frechet_pooled"
    assert result.num_samples == 5
    assert result.value == pytest.approx(expected, rel=1e-4)
    assert frechet(images, images, features=pooled, device="cpu").value == pytest.approx(0, abs=1e-9)


def test_too_few_and_unlike_images_are_refused(images):
    """No more images than features; sets of other sizes; features that are no vectors; unknown ones."""
    with pytest.raises(DataError, match="or force=True"):
        frechet(images[:3], images[:3], features=pooled, device="cpu")
    assert frechet(images[:3], images[:3], features=pooled, force=True, device="cpu").value < 1e-9
    with pytest.raises(DataError, match="images of one size: got 32x32 and 16x16"):
        frechet(images, images[..., :16, :16], features=pooled, device="cpu")
    with pytest.raises(DataError, match="expected one vector each"):
        frechet(images, images, features=lambda batch: batch, device="cpu")
    with pytest.raises(SpecError, match="did you mean 'inception'"):
        frechet(images, images, features="incepton", device="cpu")
    with pytest.raises(SpecError, match="needs the weight file"):
        frechet(images, images, device="cpu")
