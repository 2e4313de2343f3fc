"""What a YAML file says of measures that compare generated with real samples one by one. Free of torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from diffusability.core.specs.base import Written, fail
from diffusability.core.specs.components import AnyFeatures, EvaluatorSpec
from diffusability.core.specs.metric_info import Judged, MetricInfo
from diffusability.core.specs.scorecard import ComparisonUse
from diffusability.eval.specs import generation_metrics
from diffusability.eval.specs.features.clip import CLIPSpec
from diffusability.eval.specs.features.inception import InceptionSpec


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

    def metric_info(self, name: str) -> MetricInfo | None:
        return self.metrics.get(name) or generation_metrics.info_with_features(
            self.metrics, name, self.features.label()
        )


#: Images of a subset over which KID is averaged.
KID_SUBSET = 1000


def _kid_of(count: int) -> Mapping[str, Any]:
    """As torch-fidelity takes it; of fewer images than a subset holds, the distance of all of them."""
    return {} if count >= KID_SUBSET else {"subsets": 1, "subset_size": count, "spread": "jackknife"}


class KIDSpec(SampleSetSpec):
    """Kernel distance of generated to real images, unbiased also for few images; KID with Inception's features."""

    kind: Literal["kid"] = "kid"
    builds: ClassVar[str] = "diffusability.eval.generation.kid:KID"
    metrics: ClassVar[Mapping[str, MetricInfo]] = generation_metrics.KID
    comparison: ClassVar[ComparisonUse | None] = ComparisonUse(of_features=True, settings=_kid_of)

    subsets: PositiveInt = Field(100, description="random subsets over which it is averaged")
    subset_size: int = Field(KID_SUBSET, ge=2, description="images of a subset")
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


class CMMDSpec(SampleSetSpec):
    """Gaussian kernel distance of generated to real images in CLIP features."""

    kind: Literal["cmmd"] = "cmmd"
    builds: ClassVar[str] = "diffusability.eval.generation.cmmd:CMMD"
    named_for: ClassVar[str] = "clip"
    metrics: ClassVar[Mapping[str, MetricInfo]] = generation_metrics.CMMD

    features: AnyFeatures = Field(CLIPSpec(), description="the network whose features are compared")
    sigma: PositiveFloat = Field(10.0, description="width of the kernel")


class PrecisionRecallSpec(SampleSetSpec):
    """Shares of generated samples among real ones (precision) and of real ones among generated (recall)."""

    kind: Literal["precision-recall"] = "precision-recall"
    builds: ClassVar[str] = "diffusability.eval.generation.precision_recall:PrecisionRecall"
    metrics: ClassVar[Mapping[str, MetricInfo]] = generation_metrics.PRECISION_RECALL
    comparison: ClassVar[ComparisonUse | None] = ComparisonUse(of_features=True)

    neighbours: PositiveInt = Field(3, description="nearest neighbours to which the balls around samples reach")


class InceptionScoreSpec(SampleSetSpec):
    """How surely a classifier recognises generated images, and how many classes it sees; without real images."""

    kind: Literal["inception-score"] = "inception-score"
    builds: ClassVar[str] = "diffusability.eval.generation.inception_score:InceptionScore"
    needs: ClassVar[frozenset[str]] = frozenset({"generated"})
    named_for: ClassVar[str] = "inception_logits_unbiased"
    metrics: ClassVar[Mapping[str, MetricInfo]] = generation_metrics.INCEPTION_SCORE

    features: AnyFeatures = Field(InceptionSpec(layer="logits_unbiased"), description="a network's logits of classes")
    num_samples: PositiveInt = Field(50_000, description="images")
    splits: PositiveInt = Field(10, description="parts over which it is averaged")

    @model_validator(mode="after")
    def _of_logits(self) -> "InceptionScoreSpec":
        if not self.features.gives_logits():
            text = (
                f"features {self.features.label()!r} are not logits of classes; for inception: layer: logits_unbiased"
            )
            raise fail("features", text, self.features.label(), self.kind)
        if self.splits > self.num_samples:
            text = f"{self.num_samples} images cannot be split into {self.splits} parts"
            raise fail("splits", text, self.splits, self.kind)
        return self


#: Groups of images whose leaving out gives the spread of a Frechet distance, where the spec says nothing.
JACKKNIFE_GROUPS = 10


class FrechetSettings(EvaluatorSpec):
    """What the two kinds of Frechet distances have in common."""

    builds: ClassVar[str] = "diffusability.eval.generation.frechet:Frechet"

    #: Which images are compared with the real ones.
    compares: ClassVar[Literal["generated", "reconstruction", "interpolation"]] = "generated"

    features: AnyFeatures = Field(InceptionSpec(), description="the network whose features are compared")
    num_samples: PositiveInt = Field(
        50_000, description="images that it sees of each set; fewer when the data has fewer"
    )
    reference: Path | None = Field(
        None, description="npz with statistics of real images, ADM's or our own; default: the stage's real images"
    )
    write_reference: Annotated[Path | None, Written()] = Field(
        None, description="npz to which the statistics of the real images are written, for `reference` of later runs"
    )
    jackknife_groups: int | None = Field(
        None,
        ge=0,
        description="groups of images that are left out in turn for the spread: as many distances and covariances more;"
        f" 0 for no spread; default: {JACKKNIFE_GROUPS}, or none of fewer than {2 * JACKKNIFE_GROUPS} images",
    )
    force: bool = Field(False, description="also with no more images than features, where the number means little")
    seed: int = Field(0, description="draws the frame of each clip that an extractor of images sees")

    @model_validator(mode="after")
    def _enough_samples(self) -> "FrechetSettings":
        length = self.features.num_features()
        if length is not None and self.num_samples <= length and not self.force:
            raise fail("num_samples", too_few(self.metric(), self.num_samples, length), self.num_samples, self.kind)
        groups = self.jackknife_groups or 0
        if groups == 1 or 2 * groups > self.num_samples:
            raise fail(
                "jackknife_groups",
                f"expected 0, or from 2 groups to half of num_samples ({self.num_samples})",
                self.jackknife_groups,
                self.kind,
            )
        if self.reference is not None and self.write_reference is not None:
            text = "give one of reference, which is read, and write_reference, which is made of the real images"
            raise fail("write_reference", text, str(self.write_reference), self.kind)
        return self

    def needed(self) -> frozenset[str]:
        return frozenset({self.compares} if self.reference is not None else {self.compares, "images"})

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        self.features.check_images(image_shape)

    def distinct_name(self) -> str:
        return f"{self.kind} of features {self.features.label()}"

    def metric(self) -> str:
        """The name of the number: of its features, so that none but Inception's is called FID."""
        name = self.features.frechet_name()
        prefix = {"generated": "", "reconstruction": "r", "interpolation": "i"}[self.compares]
        return generation_metrics.prefixed(prefix, name)

    def metric_info(self, name: str) -> MetricInfo | None:
        features = generation_metrics.in_words(self.features.label())
        judges: Judged = "samples" if self.compares == "generated" else "reconstruction"
        if name in (self.metric() + generation_metrics.FLOOR, self.metric() + generation_metrics.ABOVE_FLOOR):
            own = self.metric_info(self.metric())
            return None if own is None else generation_metrics.floor_info(own, name)
        other = generation_metrics.frechet_info(f"Frechet {features}", features, judges, rank=5)
        return self.metrics.get(name) or (other if name == self.metric() else None)

    def check_inputs(self) -> None:
        if self.reference is not None and not self.reference.is_file():
            raise ValueError(f"reference statistics {str(self.reference)!r} do not exist")


def too_few(metric: str, num_samples: int, length: int) -> str:
    """Why a distance is refused."""
    return (
        f"{metric} of {num_samples} images with {length} features each is far off: their covariance is singular;"
        f" expected more than {length} images, or 'force: true' to have the number nevertheless"
    )


class FrechetSpec(FrechetSettings):
    """Frechet distance of generated to real images in the features of a network: FID, sFID, FDD, FVD and others."""

    kind: Literal["frechet"] = "frechet"
    metrics: ClassVar[Mapping[str, MetricInfo]] = generation_metrics.FRECHET

    floor: bool = Field(
        False,
        description="also the distance of the reconstructions of the same real images, below which a model of these"
        " latents hardly comes, and the difference of both",
    )

    def needed(self) -> frozenset[str]:
        return super().needed() | ({"images", "reconstruction"} if self.floor else set())

    comparison: ClassVar[ComparisonUse | None] = ComparisonUse(
        of_features=True,
        settings=lambda count: {"force": True},  # a note says how far off the number of few images is
    )


class RFIDSpec(FrechetSettings):
    """Frechet distance of reconstructions to their images in the features of a network; rFID with Inception's."""

    kind: Literal["rfid"] = "rfid"
    compares: ClassVar[Literal["generated", "reconstruction", "interpolation"]] = "reconstruction"
    metrics: ClassVar[Mapping[str, MetricInfo]] = generation_metrics.RFID


class IFIDSpec(FrechetSettings):
    """Frechet distance of images decoded half way between neighbouring latents; iFID with Inception's features."""

    kind: Literal["ifid"] = "ifid"
    builds: ClassVar[str] = "diffusability.eval.generation.interpolated_frechet:InterpolatedFrechet"
    compares: ClassVar[Literal["generated", "reconstruction", "interpolation"]] = "interpolation"
    metrics: ClassVar[Mapping[str, MetricInfo]] = generation_metrics.IFID

    share: float = Field(0.5, gt=0, lt=1, description="place between a latent (0) and its nearest neighbour (1)")

    def needed(self) -> frozenset[str]:
        return frozenset({"latents", "autoencoder"} | (set() if self.reference is not None else {"images"}))

    def metric_info(self, name: str) -> MetricInfo | None:
        features = generation_metrics.in_words(self.features.label())
        return self.metrics.get(name) or (generation_metrics.ifid_of(features) if name == self.metric() else None)


class SlicedWassersteinSpec(EvaluatorSpec):
    """Distance between the patches of real and of generated images at several scales; needs no pretrained network."""

    kind: Literal["sliced-wasserstein"] = "sliced-wasserstein"
    builds: ClassVar[str] = "diffusability.eval.generation.sliced_wasserstein:SlicedWasserstein"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "generated"})
    metrics: ClassVar[Mapping[str, MetricInfo]] = generation_metrics.SLICED_WASSERSTEIN
    comparison: ClassVar[ComparisonUse | None] = ComparisonUse(
        paired=True, settings=lambda count: {"max_patches": max(32768, count)}
    )

    patches_per_image: PositiveInt = Field(128, description="patches of each image and scale, if max_patches allows")
    max_patches: PositiveInt = Field(32768, description="bound on the patches kept of each set and scale")
    num_projections: PositiveInt = Field(512, description="random directions")
    seed: int = Field(0, description="of patch positions and of directions")

    @model_validator(mode="after")
    def _a_patch_of_each_image(self) -> "SlicedWassersteinSpec":
        if self.num_samples > self.max_patches:
            text = f"max_patches must be at least num_samples ({self.num_samples!r}), got {self.max_patches!r}"
            raise fail("max_patches", text, self.max_patches, type(self).__name__)
        return self

    def metric_info(self, name: str) -> MetricInfo | None:
        side = name.removeprefix("sliced_wasserstein_")
        return generation_metrics.sliced_wasserstein_of(side) if side.isdigit() else self.metrics.get(name)

    def resolved_patches_per_image(self) -> int:
        """Patches that are taken of each image and scale."""
        return min(self.patches_per_image, self.max_patches // self.num_samples)
