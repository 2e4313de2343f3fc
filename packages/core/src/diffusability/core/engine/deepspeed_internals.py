"""The only place that reaches into DeepSpeed: attributes that it documents nowhere and could rename.

``USED`` lists them by their owners, for a test that each is there. They were looked for in DeepSpeed 0.16.0 and 0.19.8;
``pyproject.toml`` allows what lies between.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

#: Names by the class (or, for what is put on other objects, the module) whose source defines them.
USED: Mapping[str, Sequence[str]] = {
    "deepspeed.runtime.zero.stage3:DeepSpeedZeroOptimizer_Stage3": (
        "_optimizer_states_and_gradient_swap_in",
        "_optimizer_states_and_gradient_swap_out",
        "_reassign_or_swap_out_partitioned_parameters",
        "_swappable_optimizer_subgroup",
        "checkpoint_event_epilogue",
        "checkpoint_event_prologue",
        "fp16_groups",
        "fp32_partitioned_groups_flat",
        "get_param_id",
        "grad_position",
        "optimizer_swapper",
    ),
    "deepspeed.runtime.zero.stage_1_and_2:DeepSpeedZeroOptimizer": (
        "_lazy_init_hp_params_optimizer_state",
        "update_lp_params",
    ),
    "deepspeed.runtime.bf16_optimizer:BF16_Optimizer": ("_lazy_init_hp_params_optimizer_state", "update_lp_params"),
    "deepspeed.utils.tensor_fragment": (
        "_hp_mapping",
        "hp_fragment",
        "hp_fragment_address",
        "lp_fragment_address",
    ),
    "deepspeed.runtime.zero.partition_parameters": ("ds_numel", "ds_shape", "ds_tensor"),
    "deepspeed.runtime.swap_tensor.partitioned_param_swapper:PartitionedParamStatus": ("AVAILABLE",),
    "deepspeed.runtime.swap_tensor.optimizer_utils": ("parameter_id", "swap_params_info", "unswapped_gradients"),
    "deepspeed.runtime.swap_tensor.partitioned_optimizer_swapper": ("swap_out_gradients",),
    "deepspeed.runtime.engine:DeepSpeedEngine": ("enable_backward_allreduce", "zero_grad"),
    "deepspeed.ops": ("__compatible_ops__",),
}


@attrs.frozen(kw_only=True)
class Fragment:
    """What a rank holds of a parameter's float32 master under ZeRO 1 and 2.

    Attributes:
        first: index of its first element in the flattened parameter.
        offset: where it starts in the rank's flat partition.
        size: how many elements it has.
        master: the elements.
    """

    first: int
    offset: int
    size: int
    master: Tensor


def has_fragments(parameter: nn.Parameter) -> bool:
    """True when each rank holds a fragment of the parameter's master, or none (ZeRO 1 and 2)."""
    return hasattr(parameter, "_hp_mapping")


def fragment_of(parameter: nn.Parameter) -> Fragment | None:
    """This rank's fragment; None where it holds none."""
    mapping = getattr(parameter, "_hp_mapping", None)
    if mapping is None:
        return None
    return Fragment(
        first=mapping.lp_fragment_address.start,
        offset=mapping.hp_fragment_address.start,
        size=mapping.lp_fragment_address.numel,
        master=mapping.hp_fragment,
    )


def is_sharded(parameter: nn.Parameter) -> bool:
    """True when ZeRO-3 has cut the parameter into one flat shard a rank."""
    return hasattr(parameter, "ds_tensor")


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """Of a parameter that ZeRO-3 has cut: the shape that it has when it is whole."""
    return torch.Size(parameter.ds_shape)  # type: ignore[attr-defined]


def whole_size(parameter: nn.Parameter) -> int:
    """Of a parameter that ZeRO-3 has cut: the elements that it has when it is whole."""
    return int(parameter.ds_numel)  # type: ignore[attr-defined]


def shard_of(parameter: nn.Parameter) -> Tensor:
    """This rank's flat shard of a parameter under ZeRO-3; its float32 master where the shard is rounded or on NVMe."""
    from deepspeed.runtime.swap_tensor.partitioned_param_swapper import PartitionedParamStatus
    from deepspeed.utils import safe_get_local_fp32_param

    shard: Tensor = parameter.ds_tensor  # type: ignore[attr-defined]
    is_here = shard.status == PartitionedParamStatus.AVAILABLE  # type: ignore[attr-defined]
    if parameter.requires_grad and not (is_here and shard.dtype == torch.float32):
        master: Tensor = safe_get_local_fp32_param(parameter)
        return master
    return shard


def shard_size(parameter: nn.Parameter) -> int:
    """Elements of each rank's shard under ZeRO-3, padding included."""
    shard: Tensor = parameter.ds_tensor  # type: ignore[attr-defined]
    return int(shard.ds_numel) if shard.numel() == 0 else shard.numel()  # type: ignore[attr-defined]


def groups_of_shards(wrapper: Any, writing: bool) -> Iterator[tuple[Sequence[nn.Parameter], Tensor]]:
    """ZeRO-3's groups of parameters, each with its flat partition of masters, brought in from NVMe while looked at."""
    if writing:
        wrapper.checkpoint_event_prologue()
    for number, group in enumerate(wrapper.fp16_groups):
        on_nvme = wrapper._swappable_optimizer_subgroup(number)
        if on_nvme:
            wrapper._optimizer_states_and_gradient_swap_in(number)
        yield group, wrapper.fp32_partitioned_groups_flat[number]
        if writing:
            wrapper._reassign_or_swap_out_partitioned_parameters(number)
        if on_nvme:
            wrapper._optimizer_states_and_gradient_swap_out(number)
    if writing:
        wrapper.checkpoint_event_epilogue()


def place_of_shard(wrapper: Any, parameter: nn.Parameter) -> tuple[int, int, int]:
    """First element in the flattened parameter, offset in the group's partition, and size without padding."""
    _, offset, padded = wrapper.grad_position[wrapper.get_param_id(parameter)]
    if hasattr(wrapper, "_get_param_partition_rank"):
        rank = wrapper._get_param_partition_rank(parameter)
    else:  # up to some 0.19: all parameters are spread over one group
        rank = torch.distributed.get_rank(group=wrapper.dp_process_group)
    first = rank * padded
    return first, int(offset), max(0, min(padded, whole_size(parameter) - first))


def weights_follow_masters(wrapper: Any) -> None:
    """Under ZeRO 1 and 2: rounds the masters, which were written to, into the weights that compute."""
    wrapper.update_lp_params()


def link_moments(wrapper: Any) -> None:
    """Lets DeepSpeed find moments that were put into the optimizer, where it keeps links to them."""
    if hasattr(wrapper, "_lazy_init_hp_params_optimizer_state"):
        wrapper._lazy_init_hp_params_optimizer_state()


def skip_needless_reduction(engine: Any) -> None:
    """On one rank without sharding: it would flatten and copy back all gradients, to no end."""
    engine.enable_backward_allreduce = False


def zero_gradients_of_optimizer(engine: Any) -> None:
    """Without sharding: the engine's own looks for all parameters again at each step."""
    engine.zero_grad = engine.optimizer.zero_grad


def leave_out_shared_memory_reduction() -> None:
    """It serves inference only, and is compiled at first use under a lock file.

    Every later run waits in vain for that file when a process is killed meanwhile.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


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
