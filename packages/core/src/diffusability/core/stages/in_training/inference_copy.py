"""A copy of what is trained, for looking at it and saving it without touching the engine."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import attrs
import torch.distributed as dist
from torch import Tensor

from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.objective import Objective
from diffusability.core.engine.averages.ema import WeightAverage
from diffusability.core.engine.checkpoints.engine_state import persistent_buffers
from diffusability.core.engine.checkpoints.sharded_weights import gathered, local_values
from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.task import TrainTask
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.stages.task_of_stage import build_task


@attrs.define(kw_only=True, eq=False, slots=False)
class InferenceCopy:
    """The objective in training, whole, on the first rank, with the weights that would be saved.

    ZeRO-3 lets a module run only on all ranks at once, and an average must not be put into weights that train. So the
    first rank keeps a second module, and the weights (the averaged ones where there are any) are gathered into it.

    Attributes:
        stage: the training stage.
        context: what the task was built with.
        dataset: what it trains on.
        task: the module in training.
        averages: the averages that are kept; the first one is what is looked at.
        ranks: this process among the others.
    """

    stage: PlannedStage
    context: BuildContext
    dataset: Dataset
    task: TrainTask
    averages: Sequence[WeightAverage]
    ranks: Ranks

    @cached_property
    def _copy(self) -> TrainTask:
        device = self.ranks.device
        task = build_task(self.stage, self.context, self.dataset, device.type)
        return task.to(device).eval().requires_grad_(False)

    def refreshed(self, average: WeightAverage | None = None) -> Objective | None:
        """The copy with the present weights, in eval mode, on the first rank; None on the others.

        All ranks must call it. The weights are those of ``average``, by default of the first average, where there is
        one.
        """
        average = average or next(iter(self.averages), None)
        averaged = set(average.averages) if average is not None else set()
        others = {name for name, _ in self.task.named_parameters()} - averaged
        weights = gathered(self.task, local_values(self.task, others), self.ranks)
        if average is not None:
            weights |= average.gathered()
        if not self.ranks.is_main:
            return None
        return self._filled(weights)

    def refreshed_everywhere(self) -> Objective:
        """The copy with the present weights, in eval mode, on every rank. All ranks must call it."""
        objective = self.refreshed()
        if self.ranks.size > 1:
            for tensor in self._copy.state_dict().values():
                if tensor.numel():
                    dist.broadcast(tensor, src=0)
        return objective if objective is not None else self._copy.objective

    def _filled(self, weights: Mapping[str, Tensor]) -> Objective:
        self._copy.load_state_dict(dict(weights) | persistent_buffers(self.task))
        return self._copy.objective
