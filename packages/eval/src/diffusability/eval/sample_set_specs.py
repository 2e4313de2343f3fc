"""What a YAML file says of measures that compare generated with real samples one by one. Free of torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from diffusability.core.build import BuildContext
from diffusability.core.specs.base import fail
from diffusability.core.specs.components import AnyFeatures, EvaluatorSpec
from diffusability.eval.features.clip_spec import CLIPSpec
from diffusability.eval.features.inception_spec import InceptionSpec

if TYPE_CHECKING:
    from diffusability.eval.evaluators.cmmd import CMMD
    from diffusability.eval.evaluators.inception_score import InceptionScore
    from diffusability.eval.evaluators.kid import KID
    from diffusability.eval.evaluators.precision_recall import PrecisionRecall


class SampleSetSpec(EvaluatorSpec):
    """What these measures have in common."""

    needs: ClassVar[frozenset[str]] = frozenset({"images", "generated"})
    #: Label of the features that the plain names of metrics belong to.
    named_for: ClassVar[str] = "inception"

    features: AnyFeatures = Field(InceptionSpec(), description="the network whose features are compared")
    num_samples: PositiveInt = Field(
        10_000, description="images of each set, whose features are kept; fewer when the data has fewer"
    )
    seed: int = Field(2020, description="of all that is random")

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        self.features.check_images(image_shape)

    def distinct_name(self) -> str:
        return f"{self.kind} of features {self.features.label()}"

    def metric(self, base: str) -> str:
        """A metric's name, which says the features unless they are the usual ones."""
        return base if self.features.label() == self.named_for else f"{base}_{self.features.label()}"


class KIDSpec(SampleSetSpec):
    """Kernel distance of generated to real images, unbiased also for few images; KID with Inception's features."""

    kind: Literal["kid"] = "kid"

    subsets: PositiveInt = Field(100, description="random subsets over which it is averaged")
    subset_size: int = Field(1000, ge=2, description="images of a subset")
    spread: Literal["subsets", "jackknife"] = Field(
        "subsets",
        description="over subsets, as is usual, or of the distance of all images by leaving out each in turn",
    )

    @model_validator(mode="after")
    def _subsets_fit(self) -> "KIDSpec":
        if self.subset_size > self.num_samples:
            text = f"a subset of {self.subset_size} images does not fit in num_samples ({self.num_samples})"
            raise fail("subset_size", text, self.subset_size, self.kind)
        return self

    def build(self, context: BuildContext) -> "KID":
        from diffusability.eval.evaluators.kid import KID
        from diffusability.eval.feature_sets import feature_cache

        return KID(self, feature_cache(context))


class CMMDSpec(SampleSetSpec):
    """Gaussian kernel distance of generated to real images in CLIP features."""

    kind: Literal["cmmd"] = "cmmd"
    named_for: ClassVar[str] = "clip"

    features: AnyFeatures = Field(CLIPSpec(), description="the network whose features are compared")
    sigma: PositiveFloat = Field(10.0, description="width of the kernel")

    def build(self, context: BuildContext) -> "CMMD":
        from diffusability.eval.evaluators.cmmd import CMMD
        from diffusability.eval.feature_sets import feature_cache

        return CMMD(self, feature_cache(context))


class PrecisionRecallSpec(SampleSetSpec):
    """Shares of generated samples among real ones (precision) and of real ones among generated (recall)."""

    kind: Literal["precision-recall"] = "precision-recall"

    neighbours: PositiveInt = Field(3, description="nearest neighbours to which the balls around samples reach")

    def build(self, context: BuildContext) -> "PrecisionRecall":
        from diffusability.eval.evaluators.precision_recall import PrecisionRecall
        from diffusability.eval.feature_sets import feature_cache

        return PrecisionRecall(self, feature_cache(context))


class InceptionScoreSpec(SampleSetSpec):
    """How surely a classifier recognises generated images, and how many classes it sees; without real images."""

    kind: Literal["inception-score"] = "inception-score"
    needs: ClassVar[frozenset[str]] = frozenset({"generated"})
    named_for: ClassVar[str] = "inception_logits_unbiased"

    features: AnyFeatures = Field(InceptionSpec(layer="logits_unbiased"), description="a network's logits of classes")
    num_samples: PositiveInt = Field(50_000, description="images")
    splits: PositiveInt = Field(10, description="parts over which it is averaged")

    @model_validator(mode="after")
    def _of_logits(self) -> "InceptionScoreSpec":
        if not self.features.gives_logits():
            text = f"features {self.features.label()!r} are no logits of classes; for inception: layer: logits_unbiased"
            raise fail("features", text, self.features.label(), self.kind)
        if self.splits > self.num_samples:
            text = f"{self.num_samples} images cannot be split into {self.splits} parts"
            raise fail("splits", text, self.splits, self.kind)
        return self

    def build(self, context: BuildContext) -> "InceptionScore":
        from diffusability.eval.evaluators.inception_score import InceptionScore

        return InceptionScore(self)
