"""What YAML says of diffusion transformers that others have trained. Free of torch."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from diffusability.core.errors import CheckpointError
from diffusability.core.plugins import registry
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AnyAutoencoder, AutoencoderSpec, DenoiserSpec
from diffusability.models.specs.denoisers.dit import check_size
from diffusability.models.weight_files import check_weight_file


class PublishedDenoiserSpec(DenoiserSpec):
    """A trained DiT, SiT or LightningDiT in its authors' file, with the autoencoder of its latents."""

    kind: Literal["published"] = "published"
    builds: ClassVar[str] = "diffusability.models.denoisers.published:published_denoiser"

    family: Literal["dit", "sit", "lightningdit"] = Field(
        description="whose file it is: names of tensors do not tell a SiT from a DiT, whose time and sign differ"
    )
    path: Path = Field(description="the authors' weights, .pt or .safetensors; of a moving average beside them, that")
    size: str = Field("XL/2", description="size and patch size, as of kind dit")
    num_classes: PositiveInt | None = Field(1000, description="class labels; null for an unconditional model")
    autoencoder: AnyAutoencoder = Field(description="whose latents it makes")
    statistics: Path | None = Field(
        None,
        description="file with mean and std of each channel of the latents, such as LightningDiT's latents_stats.pt;"
        " default: the scaling that was published with the autoencoder",
    )

    @field_validator("size")
    @classmethod
    def _known_size(cls, size: str) -> str:
        return check_size(size)

    def check_inputs(self) -> None:
        for path in (self.path, self.statistics):
            if path is not None:
                try:
                    check_weight_file(path)
                except CheckpointError as error:
                    raise ValueError(str(error)) from None

    def decoder(self) -> AutoencoderSpec:
        return self.autoencoder

    def trained_elsewhere(self, context: BuildContext) -> Any:
        return registry.imported("diffusability.models.denoisers.published:published_model", repr(self.kind))(
            self, context
        )

    def is_unconditional(self) -> bool:
        """Whether it has no classes."""
        return self.num_classes is None

    def builds_untrained(self) -> bool:
        return False
