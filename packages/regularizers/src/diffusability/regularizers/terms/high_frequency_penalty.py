"""A direct penalty on the high frequencies of latents."""

import torch

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.numerics.dct import dct2, to_blocks
from diffusability.core.shapes import Latents, Scalar
from diffusability.regularizers.latents import at_least_float32, without_autocast
from diffusability.regularizers.specs.high_frequency_penalty import HighFrequencyPenaltySpec


def high_frequency_penalty(latents: Latents, *, power: float = 2.0, block_size: int = 8) -> Scalar:
    """``mean(|DCT_uv| (u + v)^p / 4)`` over all blocks, u and v running over [0, 1] within a block.

    From the alternatives to scale equivariance in "Improving the Diffusability of Autoencoders" (ICML 2025). The DC
    coefficient costs nothing. It is proportional to the latents, so that shrinking them lowers it too.
    """
    with without_autocast(latents):
        coefficients = dct2(to_blocks(at_least_float32(latents), block_size))
        frequency = torch.linspace(0, 1, block_size, dtype=coefficients.dtype, device=coefficients.device)
        weights = (frequency[:, None] + frequency[None, :]) ** power / 4
        return (coefficients.abs() * weights).mean()


class HighFrequencyPenalty(Regularizer):
    """The penalty on the latents that are decoded."""

    def __init__(self, spec: HighFrequencyPenaltySpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The penalty, at least 0; ``objective`` is not used."""
        assert output.latents is not None, "the objective provides latents"
        return high_frequency_penalty(output.latents, power=self.spec.power, block_size=self.spec.block_size)
