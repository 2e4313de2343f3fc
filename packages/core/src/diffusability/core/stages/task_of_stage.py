"""Builds what a training stage trains."""

import torch

from diffusability.core.build import BuildContext
from diffusability.core.dataset import Dataset
from diffusability.core.engine.task import TrainTask
from diffusability.core.seeds import derived_seed
from diffusability.core.specs.plan import PlannedStage
from diffusability.core.specs.stages import TrainStage
from diffusability.core.stages.surroundings import autocast_dtype


def build_task(stage: PlannedStage, context: BuildContext, dataset: Dataset) -> TrainTask:
    """The objective and the regularizers of a training stage, initialised from the stage's seed."""
    spec = stage.spec
    assert isinstance(spec, TrainStage)
    torch.manual_seed(derived_seed(stage.seed, "initialisation"))
    objective = spec.objective.build(context)
    if dataset.normalizer is not None:
        objective.use_normalizer(dataset.normalizer)
    regularizers = {regularizer.kind: regularizer.build(context) for regularizer in spec.regularizers}
    return TrainTask(objective, regularizers, spec.regularizers, autocast_dtype(stage.engine.precision))
