from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from diffusability.core.numerics.dct import chop
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.specs.autoencoders.dct_autoencoder import DCTAutoencoderSpec


@pytest.mark.parametrize(("size", "colours"), [(2, 3), (4, 1), (8, 3)])
def test_all_coefficients_are_an_exact_inverse(size: int, colours: int, noise: Callable[..., Tensor]) -> None:
    """Decoded coefficients against the images, and their energy against that of the images."""
    spec = DCTAutoencoderSpec(block_size=size, num_coefficients=size**2, image_channels=colours)
    autoencoder = spec.build(BuildContext())
    images = noise(2, colours, 3 * size, 2 * size)
    latents = autoencoder.encode(images).mode()
    assert latents.shape[1:] == spec.info(BuildContext()).latent_shape(tuple(images.shape[1:]))
    torch.testing.assert_close(autoencoder.decode(latents), images)
    torch.testing.assert_close(latents.square().sum(), images.square().sum())


def test_channels_are_scipys_coefficients_in_zigzag_order(noise: Callable[..., Tensor]) -> None:
    """The first six channels of one block and one colour against scipy's DCT, in the order written in JPEG."""
    images = noise(1, 1, 4, 4)
    latents = (
        DCTAutoencoderSpec(block_size=4, num_coefficients=6, image_channels=1).build(BuildContext()).encode(images)
    )
    table = scipy.fft.dctn(images[0, 0].numpy(), norm="ortho")
    expected = [table[u, v] for u, v in ((0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2))]
    np.testing.assert_allclose(latents.mode().flatten().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kept", [1, 16, 40])
def test_fewer_coefficients_are_the_chopped_image(kept: int, noise: Callable[..., Tensor]) -> None:
    """What is decoded against images with the same share of high frequencies chopped off; decoding is linear."""
    autoencoder = DCTAutoencoderSpec(num_coefficients=kept).build(BuildContext())
    images = noise(2, 3, 16, 24)
    decoded = autoencoder.decode(autoencoder.encode(images).mode())
    torch.testing.assert_close(decoded, chop(images, 1 - kept / 64))
    torch.testing.assert_close(autoencoder.encode(decoded).mode(), autoencoder.encode(images).mode())


def test_it_has_no_weights_and_refuses_what_does_not_fit(noise: Callable[..., Tensor]) -> None:
    """Parameters; too many coefficients, sides that do not divide, latents of other channels."""
    spec = DCTAutoencoderSpec(num_coefficients=2)
    autoencoder = spec.build(BuildContext())
    assert list(autoencoder.parameters()) == []
    assert spec.num_parameters(BuildContext()) == 0
    with pytest.raises(ValueError, match="num_coefficients is 65, and a block of 8 by 8 has 64"):
        DCTAutoencoderSpec(num_coefficients=65)
    with pytest.raises(ValueError, match="20x16 pixels is not divisible"):
        autoencoder.encode(torch.zeros(1, 3, 20, 16))
    with pytest.raises(ValueError, match=r"\(b, 6, h, w\), got \(1, 5, 2, 2\)"):
        autoencoder.decode(torch.zeros(1, 5, 2, 2))
