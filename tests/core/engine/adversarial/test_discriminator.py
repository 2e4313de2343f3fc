"""The discriminator and its losses, against closed forms and autograd."""

import pytest
import torch
from torch import nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.engine.adversarial.last_layer import LastLayer
from diffusability.core.engine.adversarial.losses import discriminator_loss, generator_loss, r1_penalty
from diffusability.core.engine.adversarial.patch_discriminator import ActNorm, PatchDiscriminator
from diffusability.core.errors import SpecError
from diffusability.core.specs.adversarial import PatchDiscriminatorSpec


def test_losses_at_known_logits():
    """Hinge: no loss beyond the margins. Non-saturating: log 2 where nothing is known."""
    sure, nothing = torch.full((2, 1, 3, 3), 2.0), torch.zeros(2, 1, 3, 3)
    assert discriminator_loss("hinge", sure, -sure).item() == 0
    assert discriminator_loss("hinge", nothing, nothing).item() == 1
    assert generator_loss("hinge", sure).item() == -2
    for loss in (discriminator_loss("non-saturating", nothing, nothing), generator_loss("non-saturating", nothing)):
        assert loss.item() == pytest.approx(torch.tensor(2.0).log().item())


def test_r1_of_a_linear_discriminator_is_half_its_squared_weight():
    """The gradient of w . x is w, whatever the image."""
    weight = torch.randn(3, 4, 4)
    images = torch.randn(5, 3, 4, 4, requires_grad=True)
    logits = (images * weight).sum((1, 2, 3)).view(5, 1, 1, 1)
    assert r1_penalty(logits, images).item() == pytest.approx(weight.square().sum().item() / 2, rel=1e-5)


def test_patches_of_70_pixels():
    """The published discriminator: a logit depends on 70 x 70 pixels and no more, 30 x 30 logits at 256 pixels."""
    made = PatchDiscriminator(PatchDiscriminatorSpec(width=4, norm="none"), (3, 256, 256))
    images = torch.randn(1, 3, 256, 256, requires_grad=True)
    logits = made(images)
    assert logits.shape == (1, 1, 30, 30)
    logits[0, 0, 15, 15].backward()
    rows = images.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == 70


def test_actnorm_standardises_what_it_was_adapted_to():
    """Mean 0 and standard deviation 1 of each channel, and of later features the same affine map."""
    norm = ActNorm(3)
    features = torch.randn(8, 3, 5, 5) * torch.tensor([1.0, 4.0, 0.1]).view(1, 3, 1, 1) + 2
    norm.adapt(features)
    channels = norm(features).detach().transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(channels.std(1, correction=0), torch.ones(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("video", "logits"), [("frames", (10, 1, 6, 6)), ("volume", (2, 1, 5, 6, 6))])
def test_clips_by_frame_and_as_volumes(video, logits):
    """Each frame is judged as an image would be; or time is one more axis of the convolutions."""
    torch.manual_seed(0)
    made = PatchDiscriminator(PatchDiscriminatorSpec(layers=2, width=4, video=video), (3, 5, 32, 32))
    clips = torch.randn(2, 3, 5, 32, 32)
    made.adapt(clips)
    assert made(clips).shape == logits
    if video == "frames":
        torch.manual_seed(0)
        images = PatchDiscriminator(PatchDiscriminatorSpec(layers=2, width=4), (3, 32, 32))
        images.load_state_dict(made.state_dict())
        torch.testing.assert_close(made(clips)[5:6], images(clips[1:2, :, 0]))


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_fewest_pixels_give_a_logit_and_fewer_are_refused(layers):
    """The bound is met with equality by at least one logit; below it the error names the layers."""
    spec = PatchDiscriminatorSpec(layers=layers, width=4)
    smallest = spec.fewest_pixels()
    logits = PatchDiscriminator(spec, (3, smallest, smallest))(torch.zeros(1, 3, smallest, smallest))
    assert min(logits.shape) > 0
    with pytest.raises(SpecError, match=f"a discriminator of {layers} layers needs images of"):
        PatchDiscriminator(spec, (3, smallest - 1, 256))


class OneConvolution(Autoencoder):
    """A decoder whose last convolution's output is rearranged to images in a way that is chosen."""

    def __init__(self, convolution, rearrange):
        super().__init__()
        self.convolution = convolution
        self.rearrange = rearrange

    def encode(self, images):
        raise TypeError("not used")

    def decode(self, latents):
        return self.rearrange(self.convolution(latents))

    def decoder_tail(self):
        return (self.convolution,)


def frames_of(output):
    """Frames in the batch, as clips of two."""
    return output.unflatten(0, (-1, 2)).transpose(1, 2)


@pytest.mark.parametrize(
    ("convolution", "rearrange", "latents"),
    [
        (nn.Conv2d(4, 3, 3, padding=1), nn.Identity(), (2, 4, 8, 8)),
        (nn.Conv2d(4, 12, 3, stride=2, padding=1), nn.PixelShuffle(2), (2, 4, 8, 8)),
        (nn.Conv3d(4, 3, 3, padding=(1, 1, 1)), nn.Identity(), (2, 4, 3, 8, 8)),
        (nn.Conv2d(4, 3, 3, padding=1), frames_of, (4, 4, 8, 8)),
    ],
)
def test_weight_gradients_at_the_last_layer_are_autograds(convolution, rearrange, latents):
    """From a gradient at the reconstruction alone, for images, shuffled pixels, volumes and frames."""
    autoencoder = OneConvolution(convolution, rearrange)
    last = LastLayer(autoencoder)
    last.watch()
    images = autoencoder.decode(torch.randn(latents))
    autoencoder.decode(torch.randn(latents))  # a second use in the same step is not the reconstruction's
    gradient = torch.randn_like(images)
    (expected,) = torch.autograd.grad(images, convolution.weight, gradient)
    torch.testing.assert_close(last.weight_gradients(gradient)[0], expected, rtol=1e-4, atol=1e-5)


def test_decoders_whose_last_layer_cannot_be_used_are_refused():
    """No convolution, and one whose output is not what the reconstruction consists of."""
    with pytest.raises(SpecError, match="names none in its decoder_tail"):
        LastLayer(OneConvolution(nn.Identity(), nn.Identity()))
    autoencoder = OneConvolution(nn.Conv2d(4, 3, 3, padding=1), nn.Upsample(scale_factor=2))
    last = LastLayer(autoencoder)
    last.watch()
    images = autoencoder.decode(torch.randn(1, 4, 8, 8))
    with pytest.raises(SpecError, match="which is not the reconstruction's"):
        last.weight_gradients(torch.randn_like(images))
