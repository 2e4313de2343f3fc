"""Numbers that must be equal on all ranks although each rank sees its own samples."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def mean_over_ranks(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The mean of detached values over all ranks; on one rank the values themselves.

    Every rank must call it, in the same order: it may be called inside ``forward``, where all ranks do the same.
    """
    values = values.detach()
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    summed = values.clone()
    dist.all_reduce(summed)
    return summed / dist.get_world_size()
