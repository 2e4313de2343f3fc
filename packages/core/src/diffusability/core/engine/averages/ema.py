"""Moving averages of the weights."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diffusability.core.engine.checkpoints.sharded_weights import gathered, local_part, local_value
from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.update_gate import Applied
from diffusability.core.errors import CheckpointError
from diffusability.core.numerics.power_function import gamma_of, newest_share
from diffusability.core.specs.averaging import EMASpec

_FILE = "average.safetensors"
#: Parameters whose differences are held at once, where the share is only known to the device.
_AT_ONCE = 16

T = TypeVar("T", float, Tensor)


class WeightAverage(ABC):
    """An average of the trained parameters that is updated after every optimizer step.

    Each rank averages what it holds: at ZeRO stage 3 its shards only. Frozen parameters and buffers are not averaged.
    The averages are float32. It is a part of a checkpoint.

    Attributes:
        label: names it among the averages of a stage, also as a part of a folder's name.
        averages: this rank's part of each average, by parameter.
    """

    def __init__(self, label: str, module: nn.Module, ranks: Ranks) -> None:
        self.label = label
        self.module = module
        self.ranks = ranks
        self._num_updates: int | Tensor = 0
        self.parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.averages = {name: local_value(value).float().clone() for name, value in self.parameters.items()}

    @property
    def num_updates(self) -> int:
        """Updates so far. Waits for the device where some are only known there."""
        return int(self._num_updates)

    @abstractmethod
    def newest_share(self, number: T) -> T:
        """The share that the newest weights take in update ``number`` (from 1), in (0, 1]."""

    @torch.no_grad()
    def take(self, weights: Sequence[Tensor], applied: Applied = True) -> None:
        """``average += share (weights - average)``, with this rank's part of the weights in the parameters' order.

        A step that changed nothing is no update, also where only the device knows: the share is then 0.
        """
        averages = list(self.averages.values())
        if isinstance(applied, Tensor):
            before = torch.as_tensor(self._num_updates, dtype=torch.float64, device=applied.device)
            self._num_updates = before + applied
            share = torch.where(applied, self.newest_share(before + 1), 0.0).float()
            for first in range(0, len(averages), _AT_ONCE):
                some = averages[first : first + _AT_ONCE]
                steps = torch._foreach_sub(list(weights[first : first + _AT_ONCE]), some)
                torch._foreach_mul_(steps, share)
                torch._foreach_add_(some, steps)
        elif applied:
            self._num_updates = self.num_updates + 1
            torch._foreach_lerp_(averages, list(weights), self.newest_share(float(self._num_updates)))

    def gathered(self) -> dict[str, Tensor]:
        """The whole averages on the CPU of the first rank, nothing on the others. All ranks must call it."""
        return gathered(self.module, self.averages, self.ranks)

    def write(self, folder: Path) -> None:
        """Saves it as a part of a checkpoint. All ranks must call it."""
        whole = self.gathered()
        if self.ranks.is_main:
            save_file(whole, folder / _FILE, {"num_updates": json.dumps(self.num_updates, allow_nan=False)})

    @torch.no_grad()
    def read(self, folder: Path) -> None:
        """Goes on from a saved one, on any number of ranks and at any ZeRO stage. Reads one parameter at a time.

        Raises:
            CheckpointError: a trained parameter is not in the file.
        """
        with safe_open(folder / _FILE, "pt") as file:
            self._num_updates = json.loads(file.metadata()["num_updates"])
            missing = sorted(set(self.averages) - set(file.keys()))
            if missing:
                raise CheckpointError(
                    f"checkpoint {str(folder.parent)!r} has no average of {missing[0]!r}; was the code of the model"
                    " changed meanwhile?"
                )
            for name, average in self.averages.items():
                whole = file.get_tensor(name).to(average.device)
                average.copy_(local_part(self.parameters[name], whole, self.ranks))


def ema_share(half_life: float) -> float:
    """``1 - 2^(-1/half_life)``, the share of the newest value; 1 for a half-life of 0."""
    return float(1 - 0.5 ** (1 / half_life)) if half_life > 0 else 1.0


class ExponentialMovingAverage(WeightAverage):
    """``average += (1 - 2^(-1/half_life)) (weights - average)``, from the weights before the first step.

    With a ramp-up the half-life of an update is at most ``rampup_ratio`` times the number of updates before it (Karras
    et al. 2022, EDM): the first update forgets the weights from before training.
    """

    def __init__(
        self, module: nn.Module, ranks: Ranks, half_life_steps: float, rampup_ratio: float | None = None
    ) -> None:
        super().__init__(f"half-life-{half_life_steps:g}", module, ranks)
        self.half_life_steps = half_life_steps
        self.rampup_ratio = rampup_ratio

    def newest_share(self, number: T) -> T:
        if self.rampup_ratio is None:
            return number * 0 + ema_share(self.half_life_steps)
        ramp = self.rampup_ratio * (number - 1)
        if isinstance(ramp, Tensor):
            return -torch.expm1(-math.log(2) / ramp.clamp(max=self.half_life_steps))  # 1 where the ramp is 0
        return ema_share(min(self.half_life_steps, ramp))


class PowerFunctionAverage(WeightAverage):
    """The power-function average of EDM2, whose length is a share of the training so far."""

    def __init__(self, module: nn.Module, ranks: Ranks, sigma_rel: float) -> None:
        super().__init__(f"sigma-rel-{sigma_rel:g}", module, ranks)
        self.sigma_rel = sigma_rel
        self.gamma = gamma_of(sigma_rel)

    def newest_share(self, number: T) -> T:
        return newest_share(number, self.gamma)


def weight_averages(spec: EMASpec | None, module: nn.Module, ranks: Ranks) -> list[WeightAverage]:
    """The averages that a stage keeps; the first is the one that it hands on."""
    if spec is None:
        return []
    made: list[WeightAverage] = [
        ExponentialMovingAverage(module, ranks, steps, spec.rampup_ratio) for steps in spec.half_lives()
    ]
    if spec.power_function is not None:
        made += [PowerFunctionAverage(module, ranks, width) for width in spec.power_function.sigma_rel]
    return made


def update_all(averages: Sequence[WeightAverage], applied: Applied = True) -> None:
    """Takes the weights after one more optimizer step into averages of the same module, if it changed them."""
    if averages and applied is not False:
        weights = [local_value(value).float() for value in averages[0].parameters.values()]
        for average in averages:
            average.take(weights, applied)
