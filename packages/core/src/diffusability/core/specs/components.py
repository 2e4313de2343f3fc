"""The base spec classes, one for each plugin group; a plugin subclasses one and names its class in ``builds``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, SerializeAsAny

from diffusability.core.specs.base import Incidental, PluginSpec, Spec
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.engine import EngineSpec
from diffusability.core.specs.metric_info import MetricInfo
from diffusability.core.specs.scorecard import ComparisonUse, ScorecardUse

Split = Literal["train", "validation"]


class AutoencoderSpec(PluginSpec):
    """Names an autoencoder and its configuration."""

    group = "autoencoders"
    noun = "autoencoder"

    def info(self, context: BuildContext) -> AutoencoderInfo | None:
        """Shape facts without building it; None when they are only known once it is built. Must not import torch."""
        return None

    def num_parameters(self, context: BuildContext) -> int | None:
        """Parameter count without building it, or None."""
        return None

    def is_pretrained(self, context: BuildContext) -> bool:
        """True when its weights come from outside of the run, as published or saved ones do. Must not import torch."""
        return False

    def random_weights(self) -> str:
        """Which of its weights are drawn at random when it is built, such as ``all weights``; empty for none.

        Numbers that are measured of such an autoencoder carry this remark. Must not import torch.
        """
        if self.is_pretrained(BuildContext()) or self.num_parameters(BuildContext()) == 0:
            return ""
        return "all weights"

    def builds_untrained(self) -> bool:
        return not self.is_pretrained(BuildContext())


class DenoiserSpec(PluginSpec):
    """Names a denoiser and its configuration."""

    group = "denoisers"
    noun = "denoiser"

    def is_trained(self) -> bool:
        """Whether it refers to a trained model, which can be sampled, and does not describe a fresh one."""
        own = type(self)
        return (
            own.trained_in is not DenoiserSpec.trained_in or own.trained_elsewhere is not DenoiserSpec.trained_elsewhere
        )

    def num_parameters(self, context: BuildContext) -> int | None:
        """Parameter count without building it, or None. ``context.latent_shape`` is set."""
        return None

    def trained_in(self, context: BuildContext) -> Path | None:
        """The folder of the trained model that it refers to; None when it describes a fresh one."""
        return None

    def trained_elsewhere(self, context: BuildContext) -> Any:
        """A ``DiffusionModel`` made of the files of others that it refers to; None when it refers to none."""
        return None

    def decoder(self) -> AutoencoderSpec | None:
        """The autoencoder whose latents it makes, where the spec itself names one."""
        return None


class ObjectiveSpec(PluginSpec):
    """Names what is trained and the loss it is trained with."""

    group = "objectives"
    noun = "objective"
    #: Fields of StepOutput that are filled, for regularizers to use.
    provides: ClassVar[frozenset[str]] = frozenset()
    #: What a batch holds.
    trains_on: ClassVar[Literal["images", "latents"]] = "images"

    def build(self, context: BuildContext) -> Any:
        """Makes the module, and tells it what this spec provides."""
        made = super().build(context)
        made.provides = self.provides or made.provides
        return made

    def num_parameters(self, context: BuildContext) -> int | None:
        """Parameter count without building it, or None."""
        return None

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        """Looks, before anything starts, whether it can work on images of shape ``(c, *t, h, w)``.

        Raises:
            ValueError: with a sentence that says what does not fit.
        """


class WeightSchedule(Spec):
    """When a regularizer acts: off before ``start`` and from ``end`` on, with a linear ramp of ``ramp`` steps."""

    start: int = Field(0, ge=0, description="first optimizer step at which the term acts")
    end: int | None = Field(None, ge=1, description="first optimizer step at which it no longer acts")
    ramp: int = Field(0, ge=0, description="steps over which the weight grows linearly from 0 after `start`")

    def factor(self, step: int) -> float:
        """Multiplier of the weight at an optimizer step, in [0, 1]."""
        if step < self.start or (self.end is not None and step >= self.end):
            return 0.0
        return min(1.0, (step - self.start + 1) / (self.ramp + 1))


class RegularizerSpec(PluginSpec):
    """Names a regularizer; the engine multiplies what it returns by ``weight`` and its schedule."""

    group = "regularizers"
    noun = "regularizer"
    #: Fields of StepOutput that it reads; checked against the objective's ``provides`` before anything starts.
    #: None: take them from the module that ``build`` makes.
    needs: ClassVar[frozenset[str] | None] = None
    #: Whether it works on clips too, and not on images alone; checked before anything starts.
    clips: ClassVar[bool] = True

    name: str | None = Field(
        None,
        pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="its line in the metrics, for several of one kind in a stage; default: the kind",
    )
    weight: float = Field(1.0, ge=0)
    schedule: WeightSchedule = WeightSchedule()

    def build(self, context: BuildContext) -> Any:
        """Makes the module, and tells it what this spec needs."""
        made = super().build(context)
        if self.needs is not None:
            made.needs = self.needs
        return made

    @property
    def label(self) -> str:
        """What it is called in metrics and messages."""
        return self.name or self.kind

    def check_model(self, context: BuildContext) -> None:
        """Looks, before anything starts, whether it suits the autoencoder and the images, as far as they are known.

        Raises:
            ValueError: with a sentence that says what does not fit.
        """
        shape = context.latent_shape
        if shape is None:
            return
        if len(shape) == 4 and not self.clips:
            raise ValueError(f"regularizer {self.kind!r} works on images only, and these latents are clips {shape!r}")
        self.check_latents(shape)

    def check_engine(self, engine: EngineSpec) -> None:
        """Looks, before anything starts, whether it works at this precision and ZeRO stage.

        Raises:
            ValueError: with a sentence that says what does not fit.
        """

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        """Looks, before anything starts, whether it can work on latents of shape ``(c, *t, h, w)``.

        Raises:
            ValueError: with a sentence that says what does not fit.
        """


class EvaluatorSpec(PluginSpec):
    """Names an evaluator."""

    group = "evaluators"
    noun = "evaluator"
    #: Fields of EvaluationBatch that it reads. None: take them from the object that ``build`` makes.
    needs: ClassVar[frozenset[str] | None] = None
    #: What readers see of its metrics, by stable name. One that is left out is shown by that name.
    metrics: ClassVar[Mapping[str, MetricInfo]] = {}
    #: How it takes part in ``dfz score``; None: not at all.
    scorecard: ClassVar[ScorecardUse | None] = None
    #: How it takes part in ``dfz compare``; None: not at all.
    comparison: ClassVar[ComparisonUse | None] = None

    num_samples: PositiveInt = Field(1024, description="images that it sees; fewer when the data has fewer")

    def needed(self) -> frozenset[str] | None:
        """``needs`` of this very spec, for evaluators that read more or less according to their fields."""
        return self.needs

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        """Looks, before anything starts, whether it can work on images of shape ``(c, *t, h, w)``.

        Raises:
            ValueError: with a sentence that says what does not fit.
        """

    def build(self, context: BuildContext) -> Any:
        """Makes the evaluator, and tells it what this spec needs."""
        made = super().build(context)
        if (needed := self.needed()) is not None:
            made.needs = needed
        return made

    def metric_info(self, name: str) -> MetricInfo | None:
        """What readers see of one of its metrics; for evaluators whose metrics are named after their fields."""
        return self.metrics.get(name)

    def distinct_name(self) -> str:
        """What tells it from other evaluators of one stage: no two may give metrics of the same name."""
        return self.kind


class FeaturesSpec(PluginSpec):
    """Names a feature extractor."""

    group = "features"
    noun = "feature extractor"
    #: What one feature vector is made of.
    takes: ClassVar[Literal["images", "clips"]] = "images"

    def label(self) -> str:
        """A short name of these very features, for the names of metrics."""
        return self.kind.replace("-", "_")

    def frechet_name(self) -> str:
        """What the Frechet distance of these features is called: ``fid`` and the like are of one network each."""
        return f"frechet_{self.label()}"

    def num_features(self) -> int | None:
        """Length of a feature vector, or None when it is only known once built."""
        return None

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        """Looks whether it can work on images of shape ``(c, *t, h, w)``. Raises ValueError when it cannot."""
        if self.takes == "clips" and len(image_shape) != 4:
            raise ValueError(f"features {self.kind!r} are of clips; the data holds images of shape {image_shape}")

    def has_published_statistics(self) -> bool:
        """Whether ADM's reference files, with ``mu`` and ``sigma``, are of these features."""
        return False

    def gives_logits(self) -> bool:
        """Whether a feature vector holds the logits of classes, of which an inception score can be made."""
        return False

    def builds_untrained(self) -> bool:
        return False


class SamplerSpec(PluginSpec):
    """Names a sampler of the diffusion ODE or SDE."""

    group = "samplers"
    noun = "sampler"
    guidance_scale: float = Field(1.0, ge=0, description="classifier-free guidance; 1 is none")


class DatasetSpec(PluginSpec):
    """Names a dataset."""

    group = "datasets"
    noun = "dataset"
    #: What its examples hold.
    holds: ClassVar[Literal["images", "latents"]] = "images"

    num_workers: Annotated[int, Incidental()] = Field(0, ge=0, description="loading processes per rank")

    def num_examples(self, split: Split) -> int | None:
        """Examples of a split, or None if only known once it is opened."""
        return None

    def image_shape(self) -> tuple[int, ...] | None:
        """Shape ``(c, h, w)`` or ``(c, t, h, w)`` of an image example, or None if only known when built."""
        return None

    def latent_shape(self) -> tuple[int, ...] | None:
        """Shape ``(c, *t, h, w)`` of an example of latents that are there already; None for what a stage will make."""
        return None

    def unlabelled(self) -> str | None:
        """The setting that says that no example has a class, such as ``labels 'none'``.

        None where examples have one, or that is only known when built.
        """
        return None

    def build(self, context: BuildContext, split: Split = "train") -> Any:
        """Opens one split, by ``Class.from_spec(spec, context, split)``."""
        made = self.implementation()
        build = getattr(made, "from_spec", made)  # a class, or a function in its place
        return build(self, context, split)


class TrackerSpec(PluginSpec):
    """Names a tracker of experiments, told of every line of metrics."""

    group = "trackers"
    noun = "tracker"


#: The spec base class of each plugin group.
SPEC_BASES: dict[str, type[PluginSpec]] = {
    base.group: base
    for base in (
        AutoencoderSpec,
        DenoiserSpec,
        ObjectiveSpec,
        RegularizerSpec,
        EvaluatorSpec,
        FeaturesSpec,
        SamplerSpec,
        DatasetSpec,
        TrackerSpec,
    )
}

# As field types: dumped with the fields of the class that they hold, not only of the base.
AnyAutoencoder = SerializeAsAny[AutoencoderSpec]
AnyDenoiser = SerializeAsAny[DenoiserSpec]
AnyObjective = SerializeAsAny[ObjectiveSpec]
AnyRegularizer = SerializeAsAny[RegularizerSpec]
AnyEvaluator = SerializeAsAny[EvaluatorSpec]
AnyFeatures = SerializeAsAny[FeaturesSpec]
AnySampler = SerializeAsAny[SamplerSpec]
AnyDataset = SerializeAsAny[DatasetSpec]
AnyTracker = SerializeAsAny[TrackerSpec]
