"""Tensors, weights and data that have a shape and a type but no content.

A model of any size is built and run on them at once. They are torch's fake
tensors, which say that they are on the CPU and hold nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.modules.module import register_module_parameter_registration_hook

from diffusability.core.contracts.dataset import Dataset, Example
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.numerics.randomness import BatchRandomness

#: Labels that data is taken to have; how many makes no difference to speak of.
NUM_CLASSES = 1000

_MODE = FakeTensorMode(allow_non_fake_inputs=True)


def stand_in(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """A fake tensor."""
    with _MODE:
        return torch.empty(tuple(shape), dtype=dtype)


def is_stand_in(tensor: Tensor) -> bool:
    """Whether a tensor is a fake one."""
    return isinstance(tensor, FakeTensor)


@contextmanager
def weights_without_content() -> Iterator[list[nn.Parameter]]:
    """Inside, parameters become stand-ins when modules register them; yields all that did, in order.

    Buffers keep their content: they are small, and code that builds modules looks at them.
    """
    made: list[nn.Parameter] = []

    def replaced(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or is_stand_in(parameter):
            return None
        with _MODE:
            empty = torch.empty_strided(parameter.size(), parameter.stride(), dtype=parameter.dtype)
        made.append(nn.Parameter(empty, requires_grad=parameter.requires_grad))
        return made[-1]

    hook = register_module_parameter_registration_hook(replaced)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        hook.remove()


@attrs.frozen(kw_only=True, eq=False, slots=False)  # zero-argument super() needs the class as it is written
class ShapeRandomness(BatchRandomness):
    """Fake noise. Numbers for single samples, and those that decide what a step does, are drawn as ever.

    Attributes:
        decided: names of what was drawn that decides what a step does.
    """

    decided: list[str] = attrs.field(factory=list)

    def normal(self, name: str, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        return stand_in((len(self.positions), *shape)) if len(shape) else super().normal(name, shape, device)

    def choice(self, name: str, count: int) -> int:
        self.decided.append(name)
        return super().choice(name, count)

    def fraction(self, name: str) -> float:
        self.decided.append(name)
        return super().fraction(name)


class ShapeData(Dataset):
    """One example of a shape, with a label."""

    num_classes = NUM_CLASSES

    def __init__(self, shape: Sequence[int], normalizer: LatentNormalizer | None = None) -> None:
        self.shape = tuple(shape)
        self.normalizer = normalizer

    def __len__(self) -> int:
        return 1

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        return Example(data=stand_in(self.shape), label=0)
