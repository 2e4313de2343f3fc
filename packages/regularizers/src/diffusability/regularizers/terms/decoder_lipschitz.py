"""A smooth decoder: small changes of latents change images little."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.shapes import Images, Latents, Scalar
from diffusability.regularizers.decoding import Decode, trained_autoencoder
from diffusability.regularizers.latents import sample_deviation
from diffusability.regularizers.specs.decoder_lipschitz import DecoderLipschitzSpec


def gradient_penalty(
    latents: Latents, reconstruction: Float[Tensor, "b k *s i j"], directions: Float[Tensor, "b k *s i j"]
) -> Scalar:
    """``mean_b |d<D(z), v>/dz|^2 / P`` for standard normal v and P values in an image: an estimate of ``|J|_F^2 / P``.

    R1 (Mescheder et al. 2018, equation 9) for the decoder, one of the alternatives to scale equivariance in "Improving
    the Diffusability of Autoencoders" (ICML 2025). A decoder has many outputs where a discriminator has one, so they
    are projected on a random direction (Hutchinson 1990). ``reconstruction`` must depend on ``latents``.
    """
    (gradient,) = torch.autograd.grad((reconstruction * directions).sum(), latents, create_graph=True)
    return gradient.float().square().sum() / reconstruction.numel()


def difference_penalty(
    latents: Float[Tensor, "b d *s i j"],
    reconstruction: Images,
    decode: Decode,
    directions: Float[Tensor, "b d *s i j"],
    step: float | Float[Tensor, "b ..."],
) -> Scalar:
    """``mean_b |(D(z + h u) - D(z)) / h|^2 / P`` for standard normal u: an estimate of ``|J|_F^2 / P`` at scale h.

    The same quantity as ``gradient_penalty`` from one more decoding and without second derivatives. It sees what
    the decoder does within h of the latents, and tends to the former as h tends to 0.
    """
    moved = decode(latents + step * directions)
    return ((moved - reconstruction).float() / step).square().mean()


def sum_gradient_penalty(latents: Latents, reconstruction: Float[Tensor, "b k *s i j"]) -> Scalar:
    """``mean_i (d sum(D(z)) / dz_i)^2``, over all latent values: what the authors' code penalises.

    The exact R1 of the sum of all pixels, as if it were a discriminator's output. Slopes of opposite sign cancel in it.
    ``reconstruction`` must depend on ``latents``.
    """
    (gradient,) = torch.autograd.grad(reconstruction.sum(), latents, create_graph=True)
    return gradient.float().square().mean()


def sum_difference_penalty(
    latents: Float[Tensor, "b d *s i j"],
    reconstruction: Images,
    decode: Decode,
    directions: Float[Tensor, "b d *s i j"],
    step: float | Float[Tensor, "b ..."],
) -> Scalar:
    """``mean_b (sum(D(z + h u) - D(z)) / h)^2 / L`` for standard normal u and L values in a latent.

    An estimate of ``sum_gradient_penalty`` at scale h, without second derivatives.
    """
    slopes = (decode(latents + step * directions) - reconstruction).float() / step
    return slopes.flatten(1).sum(1).square().sum() / latents.numel()


class DecoderLipschitz(Regularizer):
    """One of the two quantities by one of the two estimates, along directions drawn for every sample."""

    def __init__(self, spec: DecoderLipschitzSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The penalty, at least 0."""
        autoencoder = trained_autoencoder(objective, self.spec.label)
        latents, reconstruction = output.latents, output.reconstruction
        assert latents is not None, "the objective provides latents"
        assert reconstruction is not None, "the objective provides a reconstruction"
        draw = output.batch.randomness.normal
        if self.spec.estimate == "gradient" and self.spec.estimator == "sum":
            with sdpa_kernel(SDPBackend.MATH):
                return sum_gradient_penalty(latents, autoencoder.decode(latents))
        if self.spec.estimate == "gradient":
            directions = draw("decoder-lipschitz", reconstruction.shape[1:], latents.device).to(reconstruction)
            with sdpa_kernel(SDPBackend.MATH):  # the only attention that can be differentiated twice
                return gradient_penalty(latents, autoencoder.decode(latents), directions)
        directions = draw("decoder-lipschitz", latents.shape[1:], latents.device).to(latents)
        length = float(self.spec.step) * sample_deviation(latents)
        penalty = sum_difference_penalty if self.spec.estimator == "sum" else difference_penalty
        return penalty(latents, reconstruction, autoencoder.decode, directions, length)
