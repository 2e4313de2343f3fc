"""What a YAML file says of Frechet distances. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from diffusability.core.build import BuildContext
from diffusability.core.specs.base import Written, fail
from diffusability.core.specs.components import AnyFeatures, EvaluatorSpec
from diffusability.eval.features.inception_spec import InceptionSpec

if TYPE_CHECKING:
    from diffusability.eval.evaluators.frechet import Frechet

#: Names of distances of one network each, to which "r" is put in front for reconstructions.
ACRONYMS = frozenset({"fid", "sfid", "fdd", "fvd"})


class FrechetSettings(EvaluatorSpec):
    """What the two kinds of Frechet distances have in common."""

    #: Which images are compared with the real ones.
    compares: ClassVar[Literal["generated", "reconstruction"]] = "generated"

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
    jackknife_groups: int = Field(
        0,
        ge=0,
        description="groups of images that are left out in turn for the spread, such as 10: as many distances and"
        " covariances more; 0 for no spread",
    )
    force: bool = Field(False, description="also with no more images than features, where the number means little")
    seed: int = Field(0, description="draws the frame of each clip that an extractor of images sees")

    @model_validator(mode="after")
    def _enough_samples(self) -> "FrechetSettings":
        length = self.features.num_features()
        if length is not None and self.num_samples <= length and not self.force:
            raise fail("num_samples", too_few(self.metric(), self.num_samples, length), self.num_samples, self.kind)
        if self.jackknife_groups == 1 or 2 * self.jackknife_groups > self.num_samples:
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
        if self.compares == "generated":
            return name
        return f"r{name}" if name in ACRONYMS else f"r_{name}"

    def check_inputs(self) -> None:
        if self.reference is not None and not self.reference.is_file():
            raise ValueError(f"reference statistics {str(self.reference)!r} do not exist")

    def build(self, context: BuildContext) -> "Frechet":
        from diffusability.eval.evaluators.frechet import Frechet
        from diffusability.eval.feature_sets import feature_cache

        return Frechet(self, feature_cache(context))


def too_few(metric: str, num_samples: int, length: int) -> str:
    """Why a distance is refused."""
    return (
        f"{metric} of {num_samples} images with {length} features each is far off: their covariance is singular;"
        f" expected more than {length} images, or 'force: true' to have the number nevertheless"
    )


class FrechetSpec(FrechetSettings):
    """Frechet distance of generated to real images in the features of a network: FID, sFID, FDD, FVD and others."""

    kind: Literal["frechet"] = "frechet"


class RFIDSpec(FrechetSettings):
    """Frechet distance of reconstructions to their images in the features of a network; rFID with Inception's."""

    kind: Literal["rfid"] = "rfid"
    compares: ClassVar[Literal["generated", "reconstruction"]] = "reconstruction"
