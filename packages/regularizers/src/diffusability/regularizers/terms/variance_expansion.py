"""A loss that keeps posteriors from collapsing to points."""

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.errors import TrainingError
from diffusability.core.shapes import Latents, Scalar
from diffusability.regularizers.latents import at_least_float32
from diffusability.regularizers.specs.variance_expansion import VarianceExpansionSpec


def variance_expansion_loss(logvar: Latents, delta: float) -> Scalar:
    """``mean 1 / (s^2 + d)`` over all latent dimensions, in (0, 1/d].

    Li et al. 2026, "Taming Sampling Perturbations with Variance Expansion Loss", arXiv 2603.21085, there with weight
    0.1 in the place of the KL divergence. Only the form of the loss was available when this was written; the paper's d
    was not, and the default here is ours.
    """
    return (at_least_float32(logvar).exp() + delta).reciprocal().mean()


class VarianceExpansion(Regularizer):
    """The loss on the posterior's variance."""

    def __init__(self, spec: VarianceExpansionSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The loss; ``objective`` is not used.

        Raises:
            TrainingError: the encoder is deterministic.
        """
        assert output.posterior is not None, "the objective provides a posterior"
        if output.posterior.logvar is None:
            raise TrainingError(
                f"regularizer {self.spec.label!r} needs a posterior with a variance, but this autoencoder's encoder is"
                " deterministic; remove it or train a variational autoencoder"
            )
        return variance_expansion_loss(output.posterior.logvar, self.spec.delta)
