"""The three kinds of stages."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, SerializeAsAny, model_validator

from diffusability.core.errors import PluginError, nearest
from diffusability.core.specs.adversarial import AdversarialSpec
from diffusability.core.specs.averaging import EMASpec
from diffusability.core.specs.base import Incidental, KindedSpec, Spec, StageReference, fail
from diffusability.core.specs.components import (
    AnyAutoencoder,
    AnyDataset,
    AnyDenoiser,
    AnyEvaluator,
    AnyObjective,
    AnyRegularizer,
    AnySampler,
    AnyTracker,
    SamplerSpec,
    Split,
)
from diffusability.core.specs.engine import EngineSpec, InferencePrecision
from diffusability.core.specs.training import (
    CheckpointSpec,
    InTrainingEvaluationSpec,
    LearningRateSpec,
    OptimizerSpec,
    PreviewSpec,
)

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class StageSpec(KindedSpec):
    """A named step of a run."""

    noun: ClassVar[str] = "stage"

    data: AnyDataset | None = Field(None, description="default: the run's data")
    engine: EngineSpec | None = Field(None, description="default: the run's engine")
    seed: Seed | None = Field(
        None, description="default: the run's seed; one of its own is the same for all of the run's seeds"
    )

    @classmethod
    def class_of(cls, kind: str) -> type[Any]:
        if kind not in STAGE_KINDS:
            known = list(STAGE_KINDS)
            raise PluginError(f"unknown stage kind {kind!r}; {nearest(kind, known)}known: {', '.join(known)}")
        return STAGE_KINDS[kind]


class TrainStage(StageSpec):
    """Trains the models of an objective."""

    kind: Literal["train"] = "train"
    objective: AnyObjective
    regularizers: tuple[AnyRegularizer, ...] = ()
    optimizer: OptimizerSpec = OptimizerSpec()
    learning_rate: LearningRateSpec = LearningRateSpec()
    batch_size: PositiveInt = Field(32, description="samples per optimizer step, over all ranks")
    steps: PositiveInt = Field(description="optimizer steps")
    gradient_clip: PositiveFloat | None = Field(1.0, description="largest global gradient norm; null for no clipping")
    max_skipped: Annotated[PositiveInt, Incidental()] = Field(
        10, description="steps in a row with a loss or gradient that is not finite, after which training stops"
    )
    ema: EMASpec | None = None
    adversarial: AdversarialSpec | None = Field(None, description="a discriminator of what an autoencoder reconstructs")
    log_every: Annotated[PositiveInt, Incidental()] = 10
    log_gradient_norms: Annotated[bool, Incidental()] = Field(
        False, description="also log the gradient norm of each part of the model, before clipping"
    )
    checkpoint: Annotated[CheckpointSpec, Incidental()] = CheckpointSpec()
    preview: Annotated[PreviewSpec | None, Incidental()] = PreviewSpec()
    evaluate: InTrainingEvaluationSpec | None = None
    trackers: Annotated[tuple[AnyTracker, ...], Incidental()] = ()

    @model_validator(mode="after")
    def _regularizers_differ(self) -> "TrainStage":
        labels = [regularizer.label for regularizer in self.regularizers]
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise ValueError(
                f"regularizers must differ in name; more than one: {', '.join(repeated)}; give each a 'name' of its own"
            )
        return self


class EncodeStage(StageSpec):
    """Encodes a dataset once, so that denoisers train on cached latents."""

    kind: Literal["encode"] = "encode"
    meant_before: ClassVar[Mapping[str, Any]] = {"precision": "fp32"}
    autoencoder: AnyAutoencoder
    split: Split = "train"
    num_samples: PositiveInt | None = Field(None, description="default: one epoch of the data")
    normalization: Literal["measured", "measured-by-place", "published"] = Field(
        "measured",
        description="how denoisers will see these latents: by the statistics of this data for each channel, or for each"
        " channel at each place, or by the autoencoder's own shift and scale",
    )
    flips: bool = Field(True, description="also encode each image mirrored; training draws one of the two")
    batch_size: Annotated[PositiveInt, Incidental()] = 32
    shard_size: Annotated[PositiveInt, Incidental()] = Field(4096, description="samples per file")
    precision: InferencePrecision = Field(
        "auto",
        description="of the autoencoder; auto: bf16 by autocast where the device has instructions for it, two to three"
        " times as fast, latents a percent or two off; fp32: float32 throughout",
    )


class SweepSpec(Spec):
    """Values of one field of the sampler that samples are evaluated at, beside the sampler's own."""

    guidance_scale: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    time_shift: tuple[PositiveFloat, ...] | None = None

    @model_validator(mode="after")
    def _one_field(self) -> "SweepSpec":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("sweep one field of the sampler: guidance_scale or time_shift, with a list of values")
        values = self.values
        if len(values) < 2 or list(values) != sorted(set(values)):
            raise fail(self.field, f"expected at least two values, rising, got {list(values)!r}", values, "sweep")
        return self

    @property
    def field(self) -> str:
        """The sampler's field."""
        return "guidance_scale" if self.guidance_scale is not None else "time_shift"

    @property
    def values(self) -> tuple[float, ...]:
        """Its values, rising."""
        return self.guidance_scale or self.time_shift or ()

    def samplers(self, sampler: SamplerSpec) -> Iterator[tuple[float, SamplerSpec]]:
        """The values, each with the sampler that has it."""
        for value in self.values:
            yield value, sampler.model_copy(update={self.field: value})


#: How the classes of samples are chosen: all equally often, or drawn independently.
LabelProtocol = Literal["balanced", "random"]


class EvaluateStage(StageSpec):
    """Evaluates an autoencoder, or the samples of a denoiser."""

    kind: Literal["evaluate"] = "evaluate"
    autoencoder: AnyAutoencoder | None = None
    denoiser: AnyDenoiser | None = None
    sampler: AnySampler | None = Field(None, description="for a denoiser; default: euler with 40 steps")
    sweep: SweepSpec | None = Field(
        None, description="values of guidance_scale or time_shift that samples are evaluated at, too"
    )
    labels: LabelProtocol = Field(
        "balanced",
        description="classes of samples of a conditional model: each equally often in a random order, or drawn"
        " independently of each other",
    )
    evaluators: tuple[AnyEvaluator, ...] = Field(min_length=1)
    split: Split | None = Field(
        None, description="which images; default: validation for an autoencoder, train for a denoiser"
    )
    batch_size: Annotated[PositiveInt, Incidental()] = 64
    precision: InferencePrecision = Field(
        "fp32",
        description="of the autoencoder; bf16: autocast, about twice as fast, PSNR within some hundredths of a dB;"
        " auto: bf16 where the device has instructions for it",
    )
    num_preview_images: Annotated[int, Incidental()] = Field(
        64, ge=0, description="generated images shown in a grid, beside as many real ones"
    )
    fingerprint: str | None = Field(
        None, description="of files outside of the run that are read: with another value the stage is run again"
    )

    def identity(self) -> dict[str, Any]:
        own = super().identity()
        unset = {"fingerprint", "sweep"} | ({"labels"} if self.denoiser is None else set())
        return {name: value for name, value in own.items() if name not in unset or (value and name != "labels")}

    @model_validator(mode="after")
    def _one_model(self) -> "EvaluateStage":
        if (self.autoencoder is None) == (self.denoiser is None):
            raise ValueError("give exactly one of 'autoencoder' and 'denoiser'")
        if self.sampler is not None and self.denoiser is None:
            raise ValueError("a sampler is of use for a denoiser only")
        if self.sweep is not None and self.denoiser is None:
            raise ValueError("a sweep over a sampler's values is of use for a denoiser only")
        if self.sweep is not None and self.sampler is not None:
            known = type(self.sampler).model_fields
            if self.sweep.field not in known:
                text = f"sampler {self.sampler.kind!r} has no {self.sweep.field!r}; it has {', '.join(known)}"
                raise fail(("sweep", self.sweep.field), text, self.sweep.values, "sweep")
        names = [evaluator.distinct_name() for evaluator in self.evaluators]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"evaluators must differ in kind; more than one: {', '.join(repeated)}")
        return self

    def resolved_split(self) -> Split:
        """The split that is used."""
        return self.split or ("validation" if self.denoiser is None else "train")


STAGE_KINDS: dict[str, type[StageSpec]] = {"train": TrainStage, "encode": EncodeStage, "evaluate": EvaluateStage}

AnyStage = SerializeAsAny[StageSpec]

#: A field that names an earlier stage which encoded latents.
EncodeStageName = Annotated[str, StageReference(("encode",))]
