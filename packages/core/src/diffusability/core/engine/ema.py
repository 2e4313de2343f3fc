"""Exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Averages all parameters after every optimizer step: ``average += (1 - 2^(-1/half_life)) (weights - average)``.

    Buffers are not averaged. The averages are float32.
    """

    def __init__(self, module: nn.Module, half_life_steps: float) -> None:
        self.half_life_steps = half_life_steps
        self.averages = {name: value.detach().float().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Takes the weights of one more step into the average."""
        share = 1 - 0.5 ** (1 / self.half_life_steps)
        weights = [value.detach().float() for _, value in module.named_parameters()]
        torch._foreach_lerp_(list(self.averages.values()), weights, share)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Puts the averages into the module for the time of a ``with`` block."""
        parameters = dict(module.named_parameters())
        kept = {name: value.detach().clone() for name, value in parameters.items()}
        self._copy(self.averages, parameters)
        try:
            yield
        finally:
            self._copy(kept, parameters)

    @staticmethod
    @torch.no_grad()
    def _copy(source: dict[str, Tensor], target: dict[str, nn.Parameter]) -> None:
        for name, value in target.items():
            value.copy_(source[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return self.averages

    @torch.no_grad()
    def load_state_dict(self, averages: dict[str, Tensor]) -> None:
        """Takes over saved averages."""
        for name, value in self.averages.items():
            value.copy_(averages[name])
