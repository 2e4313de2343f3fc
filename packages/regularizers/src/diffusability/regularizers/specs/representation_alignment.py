"""What a YAML file says of the alignment of latents with features."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from diffusability.core.specs.components import AnyFeatures, RegularizerSpec

if TYPE_CHECKING:
    pass


class RepresentationAlignmentSpec(RegularizerSpec):
    """Latents must resemble the features of a frozen network, place by place and among each other (VA-VAE)."""

    kind: Literal["representation-alignment"] = "representation-alignment"
    builds: ClassVar[str] = "diffusability.regularizers.terms.representation_alignment:RepresentationAlignment"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})
    clips: ClassVar[bool] = False

    weight: float = Field(0.1, ge=0, description="with `adaptive`, the share of the reconstruction loss's gradient")
    features: AnyFeatures = Field(description="the frozen feature extractor; it must give features by place")
    cosine_margin: float = Field(0.5, ge=0, lt=2, description="m1: a cosine similarity above 1 - m1 costs nothing")
    distance_margin: float = Field(0.25, ge=0, lt=2, description="m2: a difference of similarities up to m2 is free")
    adaptive: bool = Field(True, description="scale the weight to the reconstruction loss's gradient at the latents")
    adapt_every: PositiveInt = Field(16, description="steps between measurements of the gradients, for `adaptive`")
