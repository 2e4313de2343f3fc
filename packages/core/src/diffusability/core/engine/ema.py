"""Exponential moving average of the weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.sharded_weights import gathered, local_part, local_values


class ExponentialMovingAverage:
    """Averages all parameters after every optimizer step: ``average += (1 - 2^(-1/half_life)) (weights - average)``.

    Each rank averages what it holds: at ZeRO stage 3 its shards only. Buffers are not averaged. The averages are
    float32.
    """

    def __init__(self, module: nn.Module, half_life_steps: float) -> None:
        self.half_life_steps = half_life_steps
        self.averages = {name: value.float().clone() for name, value in local_values(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Takes the weights of one more step into the average."""
        share = 1 - 0.5 ** (1 / self.half_life_steps)
        weights = [value.float() for value in local_values(module).values()]
        torch._foreach_lerp_(list(self.averages.values()), weights, share)

    def gathered(self, module: nn.Module, ranks: Ranks) -> dict[str, Tensor]:
        """The whole averages on the first rank, nothing on the others. All ranks must call it."""
        return gathered(module, self.averages, ranks)

    @torch.no_grad()
    def load(self, module: nn.Module, whole: Mapping[str, Tensor], ranks: Ranks) -> None:
        """Takes over whole averages, on any number of ranks and at any stage."""
        for name, parameter in module.named_parameters():
            self.averages[name].copy_(local_part(parameter, whole[name], ranks))
