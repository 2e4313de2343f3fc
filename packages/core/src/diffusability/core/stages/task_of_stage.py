"""Builds what a training stage trains."""

from contextlib import suppress

import attrs
import torch

from diffusability.core.contracts.dataset import Dataset, UnreadableExample
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.objective import Objective
from diffusability.core.data.latents.latent_origin import normalizer_origin
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import DataError, Problem, SpecError
from diffusability.core.numerics.precision import autocast_dtype
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import DenoiserSpec
from diffusability.core.specs.stages import TrainStage


def build_task(stage: PlannedStage, context: BuildContext, dataset: Dataset, device_type: str = "cpu") -> TrainTask:
    """The objective and the regularizers of a training stage, initialised from the stage's seed.

    They are built on the CPU; ``device_type`` is where they will compute.
    """
    spec = stage.spec
    assert isinstance(spec, TrainStage)
    torch.manual_seed(derived_seed(stage.seed, "initialisation"))
    objective = spec.objective.build(context)
    if dataset.normalizer is not None:
        _refuse_another_normalizer(stage, context, objective, dataset.normalizer)
        objective.use_normalizer(dataset.normalizer)
    context = _with_facts(context, objective, dataset)
    regularizers = {}
    for index, regularizer in enumerate(spec.regularizers):
        try:
            regularizer.check_model(context)
        except ValueError as error:  # of autoencoders about which checking the spec could know nothing
            raise SpecError([Problem(str(error), f"stages.{stage.name}.regularizers.{index}")]) from error
        regularizers[regularizer.label] = regularizer.build(context)
    dtype = autocast_dtype(stage.engine.precision, device_type)
    return TrainTask(objective, regularizers, spec.regularizers, dtype)


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


def _refuse_another_normalizer(
    stage: PlannedStage, context: BuildContext, objective: Objective, normalizer: LatentNormalizer
) -> None:
    """Raises DataError when a denoiser that was trained before would see latents scaled in another way than then."""
    denoiser: DenoiserSpec | None = getattr(getattr(stage.spec, "objective", None), "denoiser", None)
    if denoiser is None or denoiser.trained_in(context) is None or getattr(stage.data, "new_normalizer", False):
        return
    before = normalizer_origin(objective.diffusion_model().normalizer)
    if before.digest != normalizer_origin(normalizer).digest:
        raise DataError(
            f"the denoiser was trained on latents with {before}, and these come with {normalizer_origin(normalizer)};"
            " encode with the same normalisation, or set data.new_normalizer: true"
        )
