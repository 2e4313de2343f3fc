"""Weights that each rank holds a part of: ZeRO stage 3 keeps flat shards, the lower stages whole tensors.

Where the weights that compute are rounded (bf16, fp16), what counts is their float32 master; ZeRO stages 1 and 2 keep
a piece of it on each rank.
"""

from collections.abc import Collection, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from diffusability.core.engine.deepspeed_internals import (
    fragment_of,
    has_fragments,
    is_sharded,
    shard_of,
    shard_size,
    whole_shape,
    whole_size,
)
from diffusability.core.engine.distributed import Ranks


def _has_pieces_of_master(parameter: nn.Parameter) -> bool:
    return has_fragments(parameter) and parameter.dtype != torch.float32


def local_values(module: nn.Module, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """What this rank holds of each parameter, or of those named: its flat part, or the whole tensor. Not copies.

    Rounded weights that train are represented by their float32 masters.
    """
    return {
        name: local_value(parameter) for name, parameter in module.named_parameters() if names is None or name in names
    }


def local_value(parameter: nn.Parameter) -> Tensor:
    """What this rank holds of one parameter, as in ``local_values``."""
    if is_sharded(parameter):
        return shard_of(parameter).detach()
    if _has_pieces_of_master(parameter):
        fragment = fragment_of(parameter)
        return torch.empty(0, device=parameter.device) if fragment is None else fragment.master.detach()
    return parameter.detach()


@torch.no_grad()
def gathered(module: nn.Module, values: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """Whole tensors on the CPU of the first rank from every rank's local values; nothing on the others.

    All ranks must call it, with values of the same parameters. One parameter at a time is whole, so that the others'
    memory does not grow.
    """
    whole: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        if name not in values:
            continue
        value = values[name].to(ranks.device)
        if is_sharded(parameter):
            value = _joined(value, ranks)[: whole_size(parameter)].view(whole_shape(parameter))
        elif _has_pieces_of_master(parameter):
            value = _pieced_together(parameter, value, ranks)
        if ranks.is_main:
            whole[name] = value.float().cpu().clone().contiguous()
    return whole


def _joined(shard: Tensor, ranks: Ranks) -> Tensor:
    if ranks.size == 1:
        return shard.flatten()
    parts = [torch.empty_like(shard) for _ in range(ranks.size)]
    dist.all_gather(parts, shard.contiguous())
    return torch.cat([part.flatten() for part in parts])


def _pieced_together(parameter: nn.Parameter, piece: Tensor, ranks: Ranks) -> Tensor:
    whole = torch.zeros(parameter.numel(), device=ranks.device)
    first, size = _place(parameter)
    whole[first : first + size] = piece
    if ranks.size > 1:
        dist.all_reduce(whole)
    return whole.view(parameter.shape)


def _place(parameter: nn.Parameter) -> tuple[int, int]:
    fragment = fragment_of(parameter)
    return (0, 0) if fragment is None else (fragment.first, fragment.size)


def local_part(parameter: nn.Parameter, whole: Tensor, ranks: Ranks) -> Tensor:
    """This rank's part of a whole tensor, in the form of ``local_values``: ZeRO-3's shards are padded with zeros."""
    if _has_pieces_of_master(parameter) and not is_sharded(parameter):
        first, size = _place(parameter)
        return whole.flatten()[first : first + size]
    if not is_sharded(parameter):
        return whole
    size = shard_size(parameter)
    padded = torch.zeros(size * ranks.size, dtype=whole.dtype, device=whole.device)
    padded[: whole.numel()] = whole.flatten()
    return padded[ranks.rank * size : (ranks.rank + 1) * size]
