"""The KL divergence of the posterior to the standard normal."""

from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import TrainingError
from diffusability.core.objective import StepOutput
from diffusability.core.regularizer import Regularizer
from diffusability.core.shapes import Scalar
from diffusability.regularizers.specs import KLSpec


class KL(Regularizer):
    """Mean over all latent dimensions of ``-1/2 (1 + log s^2 - mu^2 - s^2)``, in nats (Kingma & Welling 2014, app. B).

    The mean, not the sum, so that a weight means the same at every resolution and number of channels.
    """

    needs = KLSpec.needs

    def forward(self, output: StepOutput, task: TrainTask) -> Scalar:
        """The divergence, at least 0; ``task`` is not used.

        Raises:
            TrainingError: the encoder is deterministic.
        """
        assert output.posterior is not None, "the objective provides a posterior"
        if output.posterior.logvar is None:
            raise TrainingError(
                "regularizer 'kl' needs a posterior with a variance, but this autoencoder's encoder is deterministic;"
                " remove 'kl' or train a variational autoencoder"
            )
        return output.posterior.kl_per_dim().mean()
