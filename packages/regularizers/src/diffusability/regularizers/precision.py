"""Full precision within autocast."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Half-precision values in float32, others as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def without_autocast(values: Tensor) -> torch.autocast:
    """A context in which matrix products of these values keep their precision."""
    return torch.autocast(values.device.type, enabled=False)
