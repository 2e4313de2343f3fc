"""Workaround for a bug in DeepSpeed's NVMe offload."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def keep_gradients_in_memory(zero_optimizer: Any) -> None:
    """Lets a ZeRO-3 optimizer whose states lie on NVMe keep gradients in memory between backward pass and update.

    DeepSpeed 0.19 writes large gradients to NVMe too, and reads each back to its offset in a flat buffer. Where that
    offset is not a multiple of the disk's sectors (a parameter before it has, say, 1000 elements), direct I/O does not
    fill the buffer, nothing is raised, and training goes on with wrong gradients. Small gradients stay in memory
    anyway; this makes all do so. They take 4 bytes for each weight of the rank's share.
    """
    swapper = zero_optimizer.optimizer_swapper

    def keep(parameter: Tensor, gradient_offsets: Sequence[int], gradient_tensors: Sequence[Tensor]) -> None:
        swap_info = swapper.swap_params_info.get(swapper.parameter_id(parameter))
        if swap_info is not None:
            swap_info.unswapped_gradients.update(zip(gradient_offsets, gradient_tensors, strict=True))

    swapper.swap_out_gradients = keep
