"""What training needs and does inside, for the log: memory, and gradient norms by part of the model."""

import resource
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from diffusability.core.engine.task import TrainTask


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory that this process has held: on a GPU since the last call, on a CPU since its start.

    On a GPU that is memory of tensors (``torch.cuda.max_memory_allocated``); on a CPU the resident set.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def module_groups(task: TrainTask) -> dict[str, list[nn.Parameter]]:
    """Trained parameters by part: the children of the objective's models, and each regularizer that owns some.

    A child is called by its own name (``encoder``) where one model is trained, else with its model's
    (``autoencoder.encoder``). Parameters that stand on a model itself belong to the model's name.
    """
    trained = [
        (name.split("."), value)
        for name, value in task.objective.named_parameters()
        if value.requires_grad and not name.startswith("_")
    ]
    models = {parts[0] for parts, _ in trained}
    groups: dict[str, list[nn.Parameter]] = {}
    for parts, value in trained:
        inner = parts[1] if len(models) == 1 else ".".join(parts[:2])
        groups.setdefault(inner if len(parts) > 2 else parts[0], []).append(value)
    for kind, regularizer in task.regularizers.items():
        own = [value for value in regularizer.parameters() if value.requires_grad]
        if own:
            groups.setdefault(kind, []).extend(own)
    return groups


def gradient_norms(engine: Any) -> dict[str, float]:
    """L2 norms of the gradients by part of the model, before clipping, as ``grad_norm/<part>``.

    To be called on all ranks between the last backward pass of a step and its update. With sharding, each gradient is
    collected from the ranks in turn: too slow for every step. Parts without any gradient are left out.
    """
    sharded = engine.zero_optimization_stage() > 0
    scale = getattr(engine.optimizer, "loss_scale", 1.0)  # that of fp16 is still in the gradients
    norms = {}
    for name, parameters in module_groups(engine.module).items():
        squares = [gradient.float().square().sum() for gradient in _gradients(parameters, sharded)]
        if squares:
            norms[f"grad_norm/{name}"] = float(torch.stack(squares).sum().sqrt()) / scale
    return norms


def _gradients(parameters: Iterable[nn.Parameter], sharded: bool) -> Iterator[Tensor]:
    if sharded:
        from deepspeed.utils import safe_get_full_grad
    for parameter in parameters:
        gradient = safe_get_full_grad(parameter) if sharded else parameter.grad
        if gradient is not None:
            yield gradient
