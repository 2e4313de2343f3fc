"""Denoisers in closed form."""

import torch
from torch import Tensor

from diffusability.core.contracts.denoiser import Denoiser


class Gaussian(Denoiser):
    """The optimal prediction for data ``N(0, s^2)``, of velocity, data or noise.

    ``E[z | z_t] = (1 - t) s^2 z_t / ((1 - t)^2 s^2 + t^2)``; the flow carries ``z_1`` to ``s z_1``.
    """

    def __init__(self, std: float, prediction: str = "velocity") -> None:
        super().__init__()
        self.std = std
        self.prediction = prediction

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        t = time.view(-1, *[1] * (latents.ndim - 1))
        variance = (1 - t) ** 2 * self.std**2 + t**2
        if self.prediction == "data":
            return (1 - t) * self.std**2 * latents / variance
        if self.prediction == "noise":
            return t * latents / variance
        return latents * (t - (1 - t) * self.std**2) / variance


class TwoPoints(Denoiser):
    """The optimal velocity for data that is one of two points with equal probability.

    ``E[eps - z | z_t] = (z_t - E[z | z_t]) / t``, with posterior weights ``exp(-|z_t - (1 - t) z|^2 / (2 t^2))``.
    """

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points = points

    def posterior_mean(self, latents: Tensor, time: Tensor) -> Tensor:
        t = time.view(-1, 1, 1, 1, 1)
        squared = (latents[:, None] - (1 - t) * self.points).square().flatten(2).sum(2)
        weights = torch.softmax(-squared / (2 * time[:, None] ** 2), dim=1)
        return torch.einsum("bk,kchw->bchw", weights, self.points)

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        return (latents - self.posterior_mean(latents, time)) / time.view(-1, 1, 1, 1)


class Linear(Denoiser):
    """Velocity ``(label + 1) z + t``, and a record of the batch sizes that it was called with."""

    num_classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.batch_sizes: list[int] = []

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        self.batch_sizes.append(len(latents))
        assert labels is not None
        return (labels.view(-1, 1, 1, 1) + 1) * latents + time.view(-1, 1, 1, 1)
