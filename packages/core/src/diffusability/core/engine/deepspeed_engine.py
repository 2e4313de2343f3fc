"""Hands a task to DeepSpeed."""

import logging
import math
import os
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from diffusability.core.engine.blocks import gathered_as_one, prepare_blocks, repeated_blocks
from diffusability.core.engine.deepspeed_internals import (
    keep_gradients_in_memory,
    leave_out_shared_memory_reduction,
    skip_needless_reduction,
    zero_gradients_of_optimizer,
)
from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import SpecError
from diffusability.core.specs.engine import ROUNDED_WEIGHTS, EngineSpec
from diffusability.core.specs.stages import TrainStage


def micro_batch_size(spec: TrainStage, engine: EngineSpec, num_ranks: int) -> int:
    """Samples per rank and forward pass: as asked, or a rank's whole share of the batch."""
    return engine.micro_batch_size or spec.batch_size // num_ranks


def deepspeed_config(spec: TrainStage, engine: EngineSpec, num_ranks: int) -> dict[str, Any]:
    """DeepSpeed's configuration of a training stage."""
    micro = micro_batch_size(spec, engine, num_ranks)
    own: dict[str, Any] = {
        "train_batch_size": spec.batch_size,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": spec.batch_size // (micro * num_ranks),
        # Without sharding DeepSpeed clips but does not tell the norm: `clip_gradients` does both instead.
        "gradient_clipping": (spec.gradient_clip or 0.0) if engine.zero_stage else 0.0,
        "zero_optimization": {"stage": engine.zero_stage, **_offload_config(engine)},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**62,
        **_precision_config(engine),
    }
    return _merged(engine.deepspeed, own)


def _offload_config(engine: EngineSpec) -> dict[str, Any]:
    offload = engine.offload
    if offload is None:
        return {}
    pinning = {"pin_memory": torch.cuda.is_available()}
    on_nvme = {"nvme_path": offload.nvme_path}
    targets = {"offload_optimizer": offload.optimizer, "offload_param": offload.parameters}
    return {
        key: {"device": target, **pinning, **(on_nvme if target == "nvme" else {})}
        for key, target in targets.items()
        if target is not None
    }


def _precision_config(engine: EngineSpec) -> dict[str, Any]:
    """Of rounded weights; autocast is the task's own. Gradients of micro batches are summed in float32."""
    if engine.precision not in ROUNDED_WEIGHTS:
        return {}
    if engine.precision == "fp16":
        own: dict[str, Any] = {"fp16": {"enabled": True}}
    else:  # of bf16 gradients DeepSpeed does not look for those that are not finite unless told to
        own = {"bf16": {"enabled": True, "check_grad_overflow": True}}
    return {**own, "data_types": {"grad_accum_dtype": "fp32"}}


def _merged(further: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Both, one within the other; what is our own wins."""
    merged = dict(further)
    for key, value in own.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def require_devices(engine: EngineSpec) -> None:
    """Raises SpecError when this machine cannot compute at the precision that is asked for."""
    if engine.precision == "fp16" and not torch.cuda.is_available():
        raise SpecError(
            "engine.precision 'fp16' needs a CUDA device, and this machine has none; 'bf16' computes on CPUs as well"
        )


def _adamw(trainable: list[nn.Parameter], spec: TrainStage, engine: EngineSpec) -> torch.optim.Optimizer:
    """AdamW in one kernel: torch's, or DeepSpeed's for states that are kept outside of the accelerator."""
    settings: dict[str, Any] = spec.optimizer.model_dump(exclude={"kind"})
    if engine.offload is not None and engine.offload.optimizer is not None:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        made: torch.optim.Optimizer = DeepSpeedCPUAdam(trainable, adamw_mode=True, **settings)
        return made
    return torch.optim.AdamW(trainable, fused=True, **settings)


def _keep_frozen_in_float32(task: nn.Module) -> None:
    """Turns frozen parameters into buffers, of the same names, which DeepSpeed neither rounds nor shards.

    Fixed networks, such as those of perceptual distances, compute in float32 whatever the trained weights are.
    """
    for module in task.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(module, name)
                module.register_buffer(name, parameter.data)


def _start_deepspeed() -> None:
    """Imports DeepSpeed and lets it take over the process group. Safe to call more than once.

    What trains nothing does without: DeepSpeed is an optional library, and importing it takes seconds.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # It calls collectives by names that torch is about to drop; nothing that a user could do about.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepspeed
        from deepspeed.utils import logger

        logger.setLevel(logging.ERROR)
        leave_out_shared_memory_reduction()
        deepspeed.init_distributed(verbose=False)


def initialize(task: nn.Module, spec: TrainStage, engine: EngineSpec, ranks: Ranks) -> Any:
    """A DeepSpeed engine around the task's trainable parameters, with AdamW.

    Raises:
        SpecError: this machine, or the task, cannot do what the engine's settings ask.
    """
    require_devices(engine)
    _start_deepspeed()
    import deepspeed

    prepare_blocks(task, engine)
    task.to(ranks.device)
    if engine.precision in ROUNDED_WEIGHTS:
        _keep_frozen_in_float32(task)
    trainable = [parameter for parameter in task.parameters() if parameter.requires_grad]
    as_one = repeated_blocks(task) if engine.compile and engine.zero_stage == 3 else []
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # BF16_Optimizer prints memory.
    with warnings.catch_warnings(), redirect_stdout(StringIO()), gathered_as_one(as_one):
        warnings.simplefilter("ignore")
        made, *_ = deepspeed.initialize(
            model=task,
            optimizer=_adamw(trainable, spec, engine),
            model_parameters=trainable,
            config=deepspeed_config(spec, engine, ranks.size),
            dist_init_required=False,
        )
    if ranks.size == 1 and engine.zero_stage == 0:
        skip_needless_reduction(made)
    if engine.zero_stage == 0:
        zero_gradients_of_optimizer(made)
    if engine.offload is not None and engine.offload.optimizer == "nvme":
        keep_gradients_in_memory(made.optimizer)
    return made


def clip_gradients(engine: Any, largest_norm: float | None) -> Tensor | None:
    """Clips before the update of an engine without sharding; the global norm before clipping, on the device."""
    if engine.zero_optimization_stage() > 0 or not engine.is_gradient_accumulation_boundary():
        return None
    (group,) = engine.optimizer.param_groups
    return torch.nn.utils.clip_grad_norm_(group["params"], largest_norm or math.inf)


def sharded_gradient_norm(engine: Any) -> Tensor | float | None:
    """The global norm before clipping that a sharding engine found in its last update."""
    norm: Tensor | float | None = engine.get_global_grad_norm() if engine.zero_optimization_stage() > 0 else None
    return norm
