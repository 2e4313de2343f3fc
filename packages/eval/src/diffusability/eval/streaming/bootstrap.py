"""The spread of a statistic over new draws of its sample."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffusability.core.numerics.seeds import derived_seed


def resampled_indices(count: int, replicate: int, seed: int = 0) -> Int[Tensor, " n"]:
    """``count`` indices drawn with replacement; they depend on the seed and the replicate alone."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "bootstrap", replicate))
    return torch.randint(count, (count,), generator=generator)


def bootstrap_spread(
    count: int, statistic: Callable[[Int[Tensor, " n"]], float], num_replicates: int, seed: int = 0
) -> float | None:
    """Standard deviation of a statistic over bootstrap samples of ``count`` items (Efron 1979).

    ``statistic`` takes the indices of a sample. None with fewer than two items or replicates.
    """
    if count < 2 or num_replicates < 2:
        return None
    values = [statistic(resampled_indices(count, replicate, seed)) for replicate in range(num_replicates)]
    return torch.tensor(values, dtype=torch.float64).std().item()


def spread_of_mean(values: Float[Tensor, " n"], num_replicates: int = 200, seed: int = 0) -> float | None:
    """``bootstrap_spread`` of the mean of ``values``."""
    doubles = values.double()
    return bootstrap_spread(len(values), lambda chosen: doubles[chosen].mean().item(), num_replicates, seed)
