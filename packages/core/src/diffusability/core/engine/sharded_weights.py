"""Weights that each rank holds a part of: ZeRO stage 3 keeps flat shards, the lower stages whole tensors."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from diffusability.core.engine.distributed import Ranks


def is_sharded(parameter: nn.Parameter) -> bool:
    """True when ZeRO-3 has cut the parameter into one flat shard a rank."""
    return hasattr(parameter, "ds_tensor")


def local_values(module: nn.Module) -> dict[str, Tensor]:
    """What this rank holds of each parameter: its flat shard, or the whole tensor. Not copies."""
    return {
        name: (parameter.ds_tensor if is_sharded(parameter) else parameter).detach()  # type: ignore[attr-defined]
        for name, parameter in module.named_parameters()
    }


@torch.no_grad()
def gathered(module: nn.Module, values: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """Whole tensors on the CPU of the first rank from every rank's local values; nothing on the others.

    All ranks must call it. One parameter at a time is whole, so that the others' memory does not grow.
    """
    whole: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        value = values[name].to(ranks.device)
        if is_sharded(parameter):
            value = _joined(value, ranks)[: parameter.ds_numel].view(parameter.ds_shape)  # type: ignore[attr-defined]
        if ranks.is_main:
            whole[name] = value.float().cpu().clone()
    return whole


def _joined(shard: Tensor, ranks: Ranks) -> Tensor:
    if ranks.size == 1:
        return shard.flatten()
    parts = [torch.empty_like(shard) for _ in range(ranks.size)]
    dist.all_gather(parts, shard.contiguous())
    return torch.cat([part.flatten() for part in parts])


def local_part(parameter: nn.Parameter, whole: Tensor, ranks: Ranks) -> Tensor:
    """This rank's part of a whole tensor, in the form of ``local_values``: ZeRO-3's shards are padded with zeros."""
    if not is_sharded(parameter):
        return whole
    size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
    padded = torch.zeros(size * ranks.size, dtype=whole.dtype, device=whole.device)
    padded[: whole.numel()] = whole.flatten()
    return padded[ranks.rank * size : (ranks.rank + 1) * size].view(parameter.ds_tensor.shape)  # type: ignore[attr-defined]
