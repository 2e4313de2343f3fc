"""What a YAML file says of the ratio of Frechet distances. Free of torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from diffusability.core.specs.base import fail
from diffusability.core.specs.components import AnyFeatures, EvaluatorSpec
from diffusability.core.specs.metric_info import MetricInfo
from diffusability.core.specs.scorecard import ComparisonUse
from diffusability.eval.specs import generation_metrics
from diffusability.eval.specs.features.efficientnet_lite import (
    EfficientNetLite0Spec,
    EfficientNetLite1Spec,
    EfficientNetLite2Spec,
)

#: Groups of images whose leaving out gives the spread, where the spec says nothing.
RATIO_GROUPS = 10
_NETWORKS = (EfficientNetLite0Spec(), EfficientNetLite1Spec(), EfficientNetLite2Spec())


class FDrSpec(EvaluatorSpec):
    """FDr^k: Frechet distance of generated images over that of held-out real ones, mean over k feature networks."""

    kind: Literal["fdr"] = "fdr"
    builds: ClassVar[str] = "diffusability.eval.generation.frechet_ratio:FDr"
    metrics: ClassVar[Mapping[str, MetricInfo]] = generation_metrics.FDR
    comparison: ClassVar[ComparisonUse | None] = ComparisonUse(
        paired=True, settings=lambda count: {"held_out": "halves"}
    )

    features: tuple[AnyFeatures, ...] = Field(_NETWORKS, min_length=1, description="the k networks")
    held_out: Literal["split", "halves"] = Field(
        "split",
        description="real images that are as far from the stage's as a perfect model would be: the other split of the"
        " data, or each half of the stage's real images for the other half",
    )
    num_samples: PositiveInt = Field(
        50_000, description="images that it sees of each set; fewer when one of the sets has fewer"
    )
    jackknife_groups: int | None = Field(
        None,
        ge=0,
        description="groups of images that are left out in turn for the spread; 0 for no spread; default:"
        f" {RATIO_GROUPS}, or none of fewer than {2 * RATIO_GROUPS} images",
    )
    force: bool = Field(False, description="also with no more images than features, where the number means little")
    seed: int = Field(0, description="draws the frame of each clip that an extractor of images sees")

    @model_validator(mode="after")
    def _fits(self) -> "FDrSpec":
        labels = [network.label() for network in self.features]
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise fail("features", f"networks must differ; more than one: {', '.join(repeated)}", labels, self.kind)
        if self.jackknife_groups is not None and self.jackknife_groups not in (0, *range(4, self.num_samples // 2, 2)):
            text = f"expected 0, or an even number from 4 to half of num_samples ({self.num_samples})"
            raise fail("jackknife_groups", text, self.jackknife_groups, self.kind)
        for network in self.features:
            reason = self.too_few(network.num_features(), self.num_samples)
            if reason is not None:
                raise fail("num_samples", reason, self.num_samples, self.kind)
        return self

    def too_few(self, length: int | None, num_samples: int) -> str | None:
        """Why so many images are not enough for features of this length; None where they are."""
        count = num_samples if self.held_out == "split" else num_samples // 2
        if length is None or count > length or self.force:
            return None
        what = f"{num_samples} images" if self.held_out == "split" else f"halves of {num_samples} images"
        return (
            f"fdr of {what} with {length} features each is far off: their covariance is singular; expected more than"
            f" {length} images in each set, or 'force: true' to have the number nevertheless"
        )

    def needed(self) -> frozenset[str]:
        return frozenset({"images", "generated"} | ({"held_out"} if self.held_out == "split" else set()))

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        for network in self.features:
            network.check_images(image_shape)

    def metric_info(self, name: str) -> MetricInfo | None:
        return self.metrics.get(name) or generation_metrics.fdr_of(name.removeprefix("fdr_"))
