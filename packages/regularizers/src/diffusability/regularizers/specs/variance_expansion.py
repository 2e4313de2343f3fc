"""What a YAML file says of the expansion of variance."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat

from diffusability.core.specs.components import RegularizerSpec

if TYPE_CHECKING:
    pass


class VarianceExpansionSpec(RegularizerSpec):
    """Posteriors must keep a variance: a replacement of the KL divergence (VE loss)."""

    kind: Literal["variance-expansion"] = "variance-expansion"
    builds: ClassVar[str] = "diffusability.regularizers.terms.variance_expansion:VarianceExpansion"
    needs: ClassVar[frozenset[str]] = frozenset({"posterior"})

    weight: float = Field(0.1, ge=0)
    delta: PositiveFloat = Field(
        0.1, description="d in 1 / (s^2 + d): variances much smaller or much larger than d are hardly pushed"
    )
