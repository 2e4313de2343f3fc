"""The kind ``published``: trained DiTs and SiTs from elsewhere. Free of torch."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from diffusability.core.errors import CheckpointError
from diffusability.core.specs.components import AnyAutoencoder, DenoiserSpec
from diffusability.models.weight_files import check_weight_file


class PublishedDenoiserSpec(DenoiserSpec):
    """A trained DiT (Peebles & Xie 2023) or SiT (Ma et al. 2024) from its published weights, to sample and judge."""

    kind: Literal["published"] = "published"
    builds: ClassVar[str] = "diffusability.models.denoisers.published:published_denoiser"
    loads: ClassVar[str | None] = "diffusability.models.denoisers.published:load_published"

    path: Path = Field(description="file of weights under the original's names, or those of diffusers' DiT")
    family: Literal["dit", "sit"] = Field(
        description="dit: predicts noise of a DDPM; sit: velocities; both use the same names for their weights, so the"
        " file does not tell which it is"
    )
    autoencoder: AnyAutoencoder = Field(description="decodes its latents")
    scaling_factor: PositiveFloat = Field(0.18215, description="what raw latents, less the shift, are multiplied by")
    shift_factor: float = 0.0
    latent_size: PositiveInt | None = Field(
        None, description="height and width of its latents; default: by the positions in the file"
    )
    num_heads: PositiveInt | None = Field(None, description="attention heads; default: as the published sizes have")

    def check_inputs(self) -> None:
        try:
            check_weight_file(self.path)
        except CheckpointError as error:
            raise ValueError(str(error)) from None
