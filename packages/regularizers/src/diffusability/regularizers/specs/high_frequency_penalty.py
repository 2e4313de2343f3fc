"""What a YAML file says of the penalty on high frequencies."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat

from diffusability.core.specs.components import RegularizerSpec
from diffusability.regularizers.specs.factors import check_blocks

if TYPE_CHECKING:
    pass


class HighFrequencyPenaltySpec(RegularizerSpec):
    """Mean amplitude of the latents' DCT coefficients, high frequencies weighted more."""

    kind: Literal["high-frequency-penalty"] = "high-frequency-penalty"
    builds: ClassVar[str] = "diffusability.regularizers.terms.high_frequency_penalty:HighFrequencyPenalty"
    needs: ClassVar[frozenset[str]] = frozenset({"latents"})

    weight: float = Field(0.1, ge=0)
    power: PositiveFloat = Field(2.0, description="p in the weight ((u + v)^p / 4) of frequency (u, v)")
    block_size: int = Field(8, ge=2, description="side of a block, in latent pixels")

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        check_blocks(self.kind, self.block_size, latent_shape)
