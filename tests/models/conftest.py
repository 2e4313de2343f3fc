from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffusability.core.contracts.objective import Batch
from diffusability.core.numerics.randomness import BatchRandomness


@pytest.fixture
def batch_of() -> Callable[..., Batch]:
    """A batch of given data, at the first places of the global batch of a step."""

    def make(data: Tensor, labels: Tensor | None = None, step: int = 0, seed: int = 7) -> Batch:
        randomness = BatchRandomness(seed=seed, step=step, positions=range(len(data)))
        return Batch(data=data, labels=labels, randomness=randomness)

    return make


@pytest.fixture
def noise() -> Callable[..., Tensor]:
    """Standard normal numbers of a shape, from a seed."""

    def make(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)

    return make


@pytest.fixture
def smooth_images() -> Callable[..., Tensor]:
    """Colour gradients and slow waves in [-1, 1], each image another."""

    def make(count: int, size: int) -> Tensor:
        y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
        rows = []
        for index in range(count):
            phase = 0.9 * index
            rows.append(torch.stack([torch.sin(2 * x + phase), torch.cos(2 * y - phase), x * y * torch.cos(x + phase)]))
        return 0.9 * torch.stack(rows)

    return make
