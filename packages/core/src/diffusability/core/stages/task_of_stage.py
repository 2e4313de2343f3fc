"""Builds what a training stage trains."""

from contextlib import suppress

import attrs
import torch

from diffusability.core.build import BuildContext
from diffusability.core.dataset import Dataset, UnreadableExample
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import Problem, SpecError
from diffusability.core.objective import Objective
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
    context = _with_facts(context, objective, dataset)
    regularizers = {}
    for index, regularizer in enumerate(spec.regularizers):
        try:
            regularizer.check_model(context)
        except ValueError as error:  # of autoencoders about which checking the spec could know nothing
            raise SpecError([Problem(str(error), f"stages.{stage.name}.regularizers.{index}")]) from error
        regularizers[regularizer.label] = regularizer.build(context)
    return TrainTask(objective, regularizers, spec.regularizers, autocast_dtype(stage.engine.precision))


def _with_facts(context: BuildContext, objective: Objective, dataset: Dataset) -> BuildContext:
    """The context with what is only known once the autoencoder is built."""
    if objective.autoencoder is None:
        return context
    info = objective.autoencoder.info
    image_shape, latent_shape = context.image_shape, context.latent_shape
    with suppress(UnreadableExample, ValueError):  # said by the loader, or by the autoencoder, when it gets there
        image_shape = image_shape or tuple(dataset[0].data.shape)
        latent_shape = latent_shape or info.latent_shape(image_shape)
    return attrs.evolve(context, autoencoder=info, image_shape=image_shape, latent_shape=latent_shape)
