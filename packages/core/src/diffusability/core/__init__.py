"""The core of diffusability: functions for notebooks and loops, and what plugin authors need.

Names are imported when they are first used: ``import diffusability.core`` does not import torch, reading
``diffusability.core.Regularizer`` does. Installed packages add functions by entry points of the group
``diffusability.functions``, such as ``latent_spectrum``, ``frechet``, ``DiT`` and the losses.
"""

from typing import TYPE_CHECKING, Any

from diffusability.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffusability.core.contracts.autoencoder import Autoencoder
    from diffusability.core.contracts.dataset import Dataset, Example, UnreadableExample
    from diffusability.core.contracts.denoiser import Denoiser
    from diffusability.core.contracts.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
    from diffusability.core.contracts.features import FeatureExtractor
    from diffusability.core.contracts.normalizer import LatentNormalizer, NormalizedLatents
    from diffusability.core.contracts.objective import Batch, Objective, StepOutput
    from diffusability.core.contracts.parametrisation import Parametrisation
    from diffusability.core.contracts.posterior import Posterior
    from diffusability.core.contracts.regularizer import Regularizer
    from diffusability.core.contracts.sampler import Sampler
    from diffusability.core.contracts.tracker import Tracker
    from diffusability.core.contracts.velocity_model import VelocityModel
    from diffusability.core.errors import (
        CheckpointError,
        DataError,
        DiffusabilityError,
        PluginError,
        SpecError,
        TrainingError,
    )
    from diffusability.core.facade.autoencoders import load_autoencoder
    from diffusability.core.facade.image_sets import image_set
    from diffusability.core.facade.sampling import sample
    from diffusability.core.facade.scorecard import Scorecard
    from diffusability.core.facade.scoring import score
    from diffusability.core.numerics.randomness import BatchRandomness
    from diffusability.core.sampling.generation import ImageGenerator
    from diffusability.core.sampling.load_generator import load_generator
    from diffusability.core.shapes import Images, Labels, Latents, Predictions, Scalar, Times
    from diffusability.core.specs.base import Incidental, Spec, StageReference
    from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
    from diffusability.core.specs.components import (
        AnyAutoencoder,
        AnyDataset,
        AnyDenoiser,
        AnyEvaluator,
        AnyFeatures,
        AnyObjective,
        AnyRegularizer,
        AnySampler,
        AnyTracker,
        AutoencoderSpec,
        DatasetSpec,
        DenoiserSpec,
        EvaluatorSpec,
        FeaturesSpec,
        ObjectiveSpec,
        RegularizerSpec,
        SamplerSpec,
        TrackerSpec,
    )
    from diffusability.core.specs.metric_info import MetricInfo
    from diffusability.core.specs.scorecard import ComparisonUse, ScorecardUse

_HOMES = {
    "contracts.autoencoder": ("Autoencoder",),
    "specs.build_context": ("AutoencoderInfo", "BuildContext"),
    "contracts.dataset": ("Dataset", "Example", "UnreadableExample"),
    "contracts.denoiser": ("Denoiser",),
    "errors": ("CheckpointError", "DataError", "DiffusabilityError", "PluginError", "SpecError", "TrainingError"),
    "contracts.evaluator": ("Curve", "EvalResult", "EvaluationBatch", "Evaluator"),
    "contracts.features": ("FeatureExtractor",),
    "facade.autoencoders": ("load_autoencoder",),
    "facade.image_sets": ("image_set",),
    "facade.sampling": ("sample",),
    "facade.scorecard": ("Scorecard",),
    "facade.scoring": ("score",),
    "sampling.generation": ("ImageGenerator",),
    "contracts.normalizer": ("LatentNormalizer", "NormalizedLatents"),
    "contracts.objective": ("Batch", "Objective", "StepOutput"),
    "contracts.parametrisation": ("Parametrisation",),
    "contracts.posterior": ("Posterior",),
    "numerics.randomness": ("BatchRandomness",),
    "contracts.regularizer": ("Regularizer",),
    "contracts.sampler": ("Sampler",),
    "sampling.load_generator": ("load_generator",),
    "shapes": ("Images", "Labels", "Latents", "Predictions", "Scalar", "Times"),
    "specs.base": ("Incidental", "Spec", "StageReference"),
    "specs.components": (
        "AnyAutoencoder",
        "AnyDataset",
        "AnyDenoiser",
        "AnyEvaluator",
        "AnyFeatures",
        "AnyObjective",
        "AnyRegularizer",
        "AnySampler",
        "AnyTracker",
        "AutoencoderSpec",
        "DatasetSpec",
        "DenoiserSpec",
        "EvaluatorSpec",
        "FeaturesSpec",
        "ObjectiveSpec",
        "RegularizerSpec",
        "SamplerSpec",
        "TrackerSpec",
    ),
    "specs.metric_info": ("MetricInfo",),
    "specs.scorecard": ("ComparisonUse", "ScorecardUse"),
    "contracts.tracker": ("Tracker",),
    "contracts.velocity_model": ("VelocityModel",),
}
_own, _own_names, __all__ = lazy_names(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    """A public name, or a function that another installed package adds."""
    try:
        return _own(name)
    except AttributeError:
        from diffusability.core.plugins import registry

        if name.startswith("_") or name not in registry.functions():
            raise
        return registry.function(name)


def __dir__() -> list[str]:
    from diffusability.core.plugins import registry

    return sorted({*_own_names(), *registry.functions()})
