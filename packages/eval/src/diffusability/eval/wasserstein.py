"""Wasserstein distances in one dimension, and along many directions."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.seeds import derived_seed

#: Directions that are projected at a time, to bound memory.
CHUNK = 64


def wasserstein_1d(first: Float[Tensor, "n k"], second: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """The 1-Wasserstein distance of each column's two equally large samples: the mean gap between order statistics."""
    return (first.sort(dim=0).values - second.sort(dim=0).values).abs().mean(0)


def random_directions(seed: int, count: int, dimension: int) -> Float[Tensor, "d k"]:
    """``count`` unit vectors, uniform on the sphere, in float64."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "directions", count, dimension))
    directions = torch.randn(dimension, count, generator=generator, dtype=torch.float64)
    return directions / directions.square().sum(0, keepdim=True).sqrt()


def sliced_wasserstein(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n d"], directions: Float[Tensor, "d k"]
) -> float:
    """Mean over directions of the 1-Wasserstein distance between the projections of two equally large samples.

    Source: Rabin et al. 2011; Karras et al. 2018, section 5.
    """
    distances = [wasserstein_1d(first @ chunk, second @ chunk) for chunk in torch.split(directions, CHUNK, dim=1)]
    return torch.cat(distances).mean().item()
