"""The float32 weights that an engine optimises and their moments, piece by piece, whatever the ZeRO stage.

Without sharding a parameter is its own master. ZeRO 1 and 2 cut one flat tensor of all parameters into equal parts, one
a rank; ZeRO 3 cuts each parameter. Either way a rank holds of a parameter one contiguous run of its elements, or none.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from diffusability.core.engine.deepspeed_internals import (
    fragment_of,
    groups_of_shards,
    place_of_shard,
    weights_follow_masters,
)

#: What AdamW keeps for every weight (Loshchilov & Hutter 2019: m and v).
MOMENTS = ("exp_avg", "exp_avg_sq")


@attrs.frozen(kw_only=True)
class Piece:
    """A run of a parameter's elements, in their logical order, inside a partition.

    Attributes:
        name: the parameter's name in the task.
        first: index of the run's first element in the flattened parameter.
        offset: where the run starts in the partition.
        size: how many elements it has.
    """

    name: str
    first: int
    offset: int
    size: int


@attrs.frozen(kw_only=True, eq=False)
class Partition:
    """A tensor that the optimizer updates in one go, with the pieces of parameters in it.

    Attributes:
        optimizer: the optimizer under ZeRO's wrapper.
        weights: the float32 weights; the optimizer's state belongs to this very tensor.
        pieces: what lies in it; the rest is padding.
    """

    optimizer: torch.optim.Optimizer
    weights: Tensor
    pieces: Sequence[Piece]

    @property
    def num_steps(self) -> int:
        """Updates that the optimizer has made to it; 0 while it has no moments."""
        return int(self.optimizer.state[self.weights]["step"]) if self.has_moments else 0

    @property
    def has_moments(self) -> bool:
        """False until the first update."""
        return MOMENTS[0] in self.optimizer.state.get(self.weights, {})

    def start_moments(self, num_steps: int) -> None:
        """Gives it moments of zero, as after so many updates."""
        state = self.optimizer.state[self.weights]
        state.update({moment: torch.zeros_like(self.weights) for moment in MOMENTS})
        if isinstance(self.optimizer, torch.optim.AdamW):  # torch counts in a tensor, DeepSpeed's CPU Adam in an int
            state["step"] = torch.tensor(float(num_steps), device=self.weights.device)
        else:
            state["step"] = num_steps

    def read(self, what: str, piece: Piece) -> Tensor:
        """A flat copy on the CPU of a piece of ``weights`` or of a moment."""
        run = self._tensor(what).detach().reshape(-1)[piece.offset : piece.offset + piece.size]
        return run.to("cpu", torch.float32, copy=True)

    @torch.no_grad()
    def write(self, what: str, piece: Piece, values: Tensor) -> None:
        """Overwrites a piece of ``weights`` or of a moment with flat values."""
        tensor = self._tensor(what)
        if piece.size == tensor.numel():  # may have its elements in another order in memory: channels last
            tensor.copy_(values.view(tensor.shape))
        else:
            tensor[piece.offset : piece.offset + piece.size].copy_(values)

    def _tensor(self, what: str) -> Tensor:
        tensor: Tensor = self.weights if what == "weights" else self.optimizer.state[self.weights][what]
        return tensor


def partitions(engine: Any, writing: bool = False) -> Iterator[Partition]:
    """This rank's partitions, each brought in from NVMe, where it is kept there, while it is looked at.

    Without sharding every rank has all of them. With ``writing``, what was written is what the engine goes on with;
    then all ranks must exhaust the iterator.
    """
    names = {id(value): name for name, value in engine.module.named_parameters()}
    wrapper = engine.optimizer
    match engine.zero_optimization_stage():
        case 0:
            for parameter in wrapper.param_groups[0]["params"]:
                whole = Piece(name=names[id(parameter)], first=0, offset=0, size=parameter.numel())
                yield Partition(optimizer=wrapper, weights=parameter, pieces=[whole])
        case 1 | 2:
            yield from _flat_partitions(engine, names)
            if writing:
                weights_follow_masters(wrapper)
        case _:
            yield from _groups_of_shards(wrapper, names, writing)


def _flat_partitions(engine: Any, names: dict[int, str]) -> Iterator[Partition]:
    inner = engine.optimizer.optimizer
    fragments = ((parameter, fragment_of(parameter)) for parameter in engine.module.parameters())
    pieces = [
        Piece(name=names[id(parameter)], first=fragment.first, offset=fragment.offset, size=fragment.size)
        for parameter, fragment in fragments
        if fragment is not None
    ]
    (weights,) = (tensor for group in inner.param_groups for tensor in group["params"])
    yield Partition(optimizer=inner, weights=weights, pieces=pieces)


def _groups_of_shards(wrapper: Any, names: dict[int, str], writing: bool) -> Iterator[Partition]:
    for group, weights in groups_of_shards(wrapper, writing):
        pieces = []
        for parameter in group:
            first, offset, size = place_of_shard(wrapper, parameter)
            if size > 0:
                pieces.append(Piece(name=names[id(parameter)], first=first, offset=offset, size=size))
        yield Partition(optimizer=wrapper.optimizer, weights=weights, pieces=pieces)
