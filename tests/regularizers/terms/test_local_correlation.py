from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusability.regularizers.terms.local_correlation import (
    local_correlation,
    local_correlation_loss,
    mean_correlation,
)

Noise = Callable[..., Tensor]


def by_numpy(windows: list[np.ndarray]) -> float:
    """Mean of numpy's correlation coefficients over all pairs within each window of vectors."""
    means = []
    for window in windows:
        matrix = np.corrcoef(window)
        means.append(matrix[np.triu_indices(len(window), 1)].mean())
    return float(np.mean(means))


def test_images_are_compared_within_windows(noise: Noise) -> None:
    """2x2 windows by slicing, channels normalised over the batch, numpy's corrcoef."""
    latents = noise(2, 6, 4, 6)
    normal = (latents - latents.mean((0, 2, 3), keepdim=True)) / latents.std((0, 2, 3), keepdim=True)
    windows = [
        normal[b, :, r : r + 2, c : c + 2].flatten(1).T.numpy() for b in range(2) for r in (0, 2) for c in (0, 2, 4)
    ]
    assert local_correlation(latents).item() == pytest.approx(by_numpy(windows), rel=1e-4)


def test_clips_are_compared_in_time_too(noise: Noise) -> None:
    """The first frame in 2x2 windows, the others in windows of 2x2x2, and the mean of both."""
    latents = noise(1, 5, 5, 2, 2)
    normal = (latents - latents.mean((0, 2, 3, 4), keepdim=True)) / latents.std((0, 2, 3, 4), keepdim=True)
    first = by_numpy([normal[0, :, 0].flatten(1).T.numpy()])
    others = by_numpy([normal[0, :, t : t + 2].flatten(1).T.numpy() for t in (1, 3)])
    assert local_correlation(latents).item() == pytest.approx((first + others) / 2, rel=1e-4)


def test_equal_and_opposite_neighbours(noise: Noise) -> None:
    """Correlations of 1, and of -1/3 for two pairs of opposite vectors."""
    vector = noise(1, 1, 6)
    assert mean_correlation(vector.expand(1, 4, 6)).item() == pytest.approx(1)
    opposite = torch.cat([vector, vector, -vector, -vector], 1)
    assert mean_correlation(opposite).item() == pytest.approx(-1 / 3)


def test_enough_correlation_costs_nothing(noise: Noise) -> None:
    """Blocks of equal latents against 0 and no gradient; noise against the threshold and a gradient."""
    smooth = noise(2, 6, 2, 2).repeat_interleave(2, -1).repeat_interleave(2, -2).requires_grad_()
    loss = local_correlation_loss(smooth, 0.75)
    loss.backward()
    assert loss.item() == 0
    assert smooth.grad.abs().sum() == 0
    rough = noise(8, 6, 8, 8, seed=1).requires_grad_()
    loss = local_correlation_loss(rough, 0.75)
    loss.backward()
    assert loss.item() == pytest.approx(0.75, abs=0.05)
    before = local_correlation(rough.detach())
    after = local_correlation((rough - 200 * rough.grad).detach())
    assert after > before


def test_gradients_of_the_correlation(noise: Noise) -> None:
    """Autograd against finite differences within windows."""
    assert torch.autograd.gradcheck(mean_correlation, (noise(2, 4, 5).requires_grad_(),))
