"""What a YAML file says of the KL regularizer."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat

from diffusability.core.specs.components import RegularizerSpec

if TYPE_CHECKING:
    pass


class KLSpec(RegularizerSpec):
    """KL divergence of the posterior to the standard normal, averaged over all latent dimensions."""

    kind: Literal["kl"] = "kl"
    builds: ClassVar[str] = "diffusability.regularizers.terms.kl:KL"
    needs: ClassVar[frozenset[str]] = frozenset({"posterior"})

    weight: float = Field(1e-6, ge=0, description="multiplies the mean over dimensions, not their sum")
    free_bits: float = Field(
        0.0, ge=0, description="nats per dimension that cost nothing: a channel below them is not pushed further"
    )
    target: PositiveFloat | None = Field(
        None, description="nats per dimension to hold: the weight grows while there are more, and shrinks below"
    )
    adaptation: PositiveFloat = Field(0.01, description="speed at which the weight follows the target, per step")
