"""What a YAML file says of chopping frequencies."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.specs.components import RegularizerSpec
from diffusability.regularizers.specs.factors import check_blocks

if TYPE_CHECKING:
    pass


class FrequencyChopSpec(RegularizerSpec):
    """Latents without their high DCT frequencies must decode to the image without its."""

    kind: Literal["frequency-chop"] = "frequency-chop"
    builds: ClassVar[str] = "diffusability.regularizers.terms.frequency_chop:FrequencyChop"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})

    weight: float = Field(0.25, ge=0)
    max_ratio: float = Field(0.9, gt=0, lt=1, description="the share that is chopped off is drawn from [0, max_ratio)")
    shape: Literal["zigzag", "square"] = Field("zigzag", description="which coefficients of a block are low ones")
    block_size: int = Field(8, ge=2, description="side of a block of latents, in latent pixels")
    perceptual: bool = Field(False, description="also compare with the objective's perceptual terms")

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        check_blocks(self.kind, self.block_size, latent_shape)
