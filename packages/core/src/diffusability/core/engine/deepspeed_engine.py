"""Hands a task to DeepSpeed."""

import logging
import math
import warnings
from typing import Any

import torch

from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.task import TrainTask
from diffusability.core.specs.stages import TrainStage
from diffusability.core.specs.training import EngineSpec


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
        "zero_optimization": {"stage": engine.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**62,
    }
    further = dict(engine.deepspeed)
    zero = {**further.pop("zero_optimization", {}), **own.pop("zero_optimization")}
    return {**own, **further, "zero_optimization": zero}


def initialize(task: TrainTask, spec: TrainStage, engine: EngineSpec, ranks: Ranks) -> Any:
    """A DeepSpeed engine around the task's trainable parameters, with AdamW."""
    import deepspeed

    trainable = [parameter for parameter in task.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable,
        lr=spec.optimizer.lr,
        betas=spec.optimizer.betas,
        eps=spec.optimizer.eps,
        weight_decay=spec.optimizer.weight_decay,
        fused=True,
    )
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made, *_ = deepspeed.initialize(
            model=task.to(ranks.device),
            optimizer=optimizer,
            model_parameters=trainable,
            config=deepspeed_config(spec, engine, ranks.size),
            dist_init_required=False,
        )
    return made


def clip_gradients(engine: Any, largest_norm: float | None) -> float | None:
    """Clips before the update of an engine without sharding, and returns the global norm before clipping."""
    if engine.zero_optimization_stage() > 0 or not engine.is_gradient_accumulation_boundary():
        return None
    trainable = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
    return float(torch.nn.utils.clip_grad_norm_(trainable, largest_norm or math.inf))


def sharded_gradient_norm(engine: Any) -> float | None:
    """The global norm before clipping that a sharding engine found in its last update."""
    norm = engine.get_global_grad_norm() if engine.zero_optimization_stage() > 0 else None
    return None if norm is None else float(norm)
