"""Velocity irreducible variance (VIV) of latents, as a penalty."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.numerics.axes import as_frames
from diffusability.core.numerics.dct import to_blocks
from diffusability.core.shapes import Latents, Scalar
from diffusability.regularizers.latents import at_least_float32, without_autocast
from diffusability.regularizers.specs.velocity_variance import VelocityVarianceSpec

_EPS = 1e-6


def trace_of_root(covariance: Float[Tensor, "n n"]) -> Scalar:
    """``sum_i sqrt(l_i)`` over the eigenvalues of a positive semidefinite matrix of mean eigenvalue near 1.

    A millionth under the root keeps the gradient finite where an eigenvalue is 0.
    """
    eigenvalues: Tensor = torch.linalg.eigvalsh(covariance)
    return (eigenvalues.clamp_min(0) + _EPS).sqrt().sum()


def velocity_variance(latents: Latents, block_size: int = 8) -> Scalar:
    """``(pi/2) mean_i sqrt(l_i)``, l being the eigenvalues of the latents' covariance, of mean 1; in (0, pi/2].

    For latents N(m, S) the velocity of rectified flow has a variance that no denoiser can predict,
    ``I(t) = sum_i l_i / ((1 - t)^2 + t^2 l_i)``, whose integral over t is ``(pi/2) sum_i sqrt(l_i)`` (VIV of arXiv
    2606.03578). S is modelled as a Kronecker product of a covariance of places within a block and one of channels, each
    the mean over the other, so that the eigenvalues are products. Latents are scaled to a mean variance of 1, without
    which shrinking them would do. White latents reach pi/2; the less dimensions carry the variance, the smaller it is.
    Unlike VIV proper it is not averaged over classes: a batch has too few samples of each. Blocks and frames count as
    samples. The covariances are not shrunk: with ``n`` blocks of ``p`` places the value of white latents is about
    ``1 - p / (8 n c)`` of pi/2 and falls to 0 for a single block, so that values of different batch sizes do not
    compare.
    """
    with without_autocast(latents):
        frames = as_frames(at_least_float32(latents))
        blocks = to_blocks(frames, block_size).flatten(-2).permute(0, 2, 3, 1, 4).flatten(0, 2)  # samples, c, places
        centred = blocks - blocks.mean(0)
        variance = centred.square().mean().clamp_min(1e-12)
        places = torch.einsum("ncp,ncq->pq", centred, centred) / (len(blocks) * blocks.shape[1] * variance)
        channels = torch.einsum("ncp,ndp->cd", centred, centred) / (len(blocks) * blocks.shape[2] * variance)
        count = places.shape[0] * channels.shape[0]
        return math.pi / 2 * trace_of_root(places) * trace_of_root(channels) / count


class VelocityVariance(Regularizer):
    """The penalty on the latents that are decoded."""

    def __init__(self, spec: VelocityVarianceSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The penalty, in (0, pi/2]; ``objective`` is not used."""
        assert output.latents is not None, "the objective provides latents"
        return velocity_variance(output.latents, self.spec.block_size)
