"""The KL divergence of the posterior to the standard normal."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.errors import TrainingError
from diffusability.core.shapes import Scalar
from diffusability.regularizers.specs.kl import KLSpec
from diffusability.regularizers.step_means import StepMeans

#: The adaptive factor stays within these, so that it can always come back.
_FACTORS = (1e-6, 1e6)


def kl_loss(posterior: Posterior, free_bits: float = 0.0) -> Scalar:
    """Mean over all latent dimensions of ``-1/2 (1 + log s^2 - mu^2 - s^2)``, in nats (Kingma & Welling 2014, app. B).

    The mean, not the sum, so that a weight means the same at every resolution and number of channels. With free bits,
    the mean over channels of ``max(free_bits, KL of the channel)``, a channel's KL being its mean over samples and
    places (Kingma et al. 2016, "Improving variational inference with inverse autoregressive flow", section 4).
    """
    divergence = posterior.kl_per_dim()
    if free_bits == 0:
        return divergence.mean()
    return divergence.transpose(0, 1).flatten(1).mean(1).clamp_min(free_bits).mean()


def followed(factor: float, measured: float, target: float, speed: float) -> float:
    """The factor after one step: ``factor * exp(speed * clip(measured / target - 1, -1, 1))``.

    The multiplicative update of a Lagrange multiplier (Rezende & Viola 2018, "Taming VAEs", algorithm 1), on the
    relative distance to the target, clipped so that a bad start does not run away.
    """
    distance = min(1.0, max(-1.0, measured / target - 1.0))
    low, high = _FACTORS
    return min(high, max(low, factor * math.exp(speed * distance)))


class KL(Regularizer):
    """The KL loss, with a weight that may follow a target. The factor of the weight is checkpointed."""

    adapted: Float[Tensor, ""]

    def __init__(self, spec: KLSpec) -> None:
        super().__init__()
        self.spec = spec
        if spec.target is not None:
            self.register_buffer("adapted", torch.ones((), dtype=torch.float64))
            self.means = StepMeans(1)

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The divergence, at least 0; ``objective`` is not used.

        Raises:
            TrainingError: the encoder is deterministic.
        """
        assert output.posterior is not None, "the objective provides a posterior"
        if output.posterior.logvar is None:
            raise TrainingError(
                f"regularizer {self.spec.label!r} needs a posterior with a variance, but this autoencoder's encoder is"
                " deterministic; remove 'kl' or train a variational autoencoder"
            )
        if self.spec.target is not None and self.training:
            measured = output.posterior.kl_per_dim().mean()[None]
            finished = self.means.finished(output.batch.randomness.step)
            if finished is not None:
                adapted = followed(float(self.adapted), float(finished), self.spec.target, self.spec.adaptation)
                self.adapted.fill_(adapted)
            self.means.add(output.batch.randomness.step, measured)
        return kl_loss(output.posterior, self.spec.free_bits)

    def factor(self) -> Tensor | None:
        """The factor that follows the target; one step behind, so that it does not depend on the micro batch."""
        return None if self.spec.target is None else self.adapted.float()
