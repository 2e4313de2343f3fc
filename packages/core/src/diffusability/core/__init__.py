"""The core of diffusability: what plugin authors need, imported when it is first used.

``import diffusability.core`` does not import torch; reading ``diffusability.core.Regularizer`` does.
"""

import importlib
from typing import TYPE_CHECKING, Any

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

_HOMES = {
    "autoencoder": ("Autoencoder",),
    "build": ("AutoencoderInfo", "BuildContext"),
    "dataset": ("Dataset", "Example", "UnreadableExample"),
    "denoiser": ("Denoiser",),
    "errors": ("CheckpointError", "DataError", "DiffusabilityError", "PluginError", "SpecError", "TrainingError"),
    "evaluator": ("Curve", "EvalResult", "EvaluationBatch", "Evaluator"),
    "features": ("FeatureExtractor",),
    "generation": ("ImageGenerator",),
    "normalizer": ("LatentNormalizer", "NormalizedLatents"),
    "objective": ("Batch", "Objective", "StepOutput"),
    "parametrisation": ("Parametrisation",),
    "posterior": ("Posterior",),
    "randomness": ("BatchRandomness",),
    "regularizer": ("Regularizer",),
    "sampler": ("Sampler",),
    "sampling": ("load_generator",),
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
    "tracker": ("Tracker",),
    "velocity_model": ("VelocityModel",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
