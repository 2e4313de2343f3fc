from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.objective import Batch, Objective, StepOutput
from diffusability.core.engine.task import TrainTask
from diffusability.core.numerics.randomness import BatchRandomness


class Reconstruction(Objective):
    """The smallest objective: mean absolute error of an autoencoder's reconstructions."""

    provides = frozenset({"images", "posterior", "latents", "reconstruction"})

    def __init__(self, autoencoder: Autoencoder | None) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, batch: Batch) -> StepOutput:
        assert self.autoencoder is not None
        posterior = self.autoencoder.encode(batch.data)
        latents = posterior.sample(batch.randomness.normal("posterior", posterior.mean.shape[1:]))
        reconstruction = self.autoencoder.decode(latents)
        return StepOutput(
            losses={"l1": self.reconstruction_loss(batch.data, reconstruction)},
            batch=batch,
            images=batch.data,
            posterior=posterior,
            latents=latents,
            reconstruction=reconstruction,
        )

    def reconstruction_loss(self, images: Tensor, reconstruction: Tensor, perceptual: bool = True) -> Tensor:
        return F.l1_loss(reconstruction, images)

    def save(self, directory: Path) -> None:
        raise NotImplementedError


@pytest.fixture
def task_of() -> Callable[..., TrainTask]:
    """A real training task around an autoencoder, and optionally regularizers with their specs."""

    def make(autoencoder: Autoencoder | None, specs: tuple = (), regularizers: dict | None = None) -> TrainTask:
        return TrainTask(Reconstruction(autoencoder), regularizers or {}, specs)

    return make


@pytest.fixture
def batch_of() -> Callable[..., Batch]:
    """A batch of given images at a step, at the first places of the global batch unless told otherwise."""

    def make(images: Tensor, step: int = 0, first: int = 0) -> Batch:
        positions = range(first, first + len(images))
        return Batch(data=images, labels=None, randomness=BatchRandomness(seed=7, step=step, positions=positions))

    return make


@pytest.fixture
def noise() -> Callable[..., Tensor]:
    """Standard normal float64 numbers of a shape, from a seed."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return make
