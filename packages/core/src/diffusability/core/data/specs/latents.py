"""The spec of cached latents. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from diffusability.core.errors import DataError
from diffusability.core.reading import read_json_object
from diffusability.core.specs.base import StageReference
from diffusability.core.specs.components import AnyAutoencoder, AnyDataset, DatasetSpec

if TYPE_CHECKING:
    pass


class LatentsSpec(DatasetSpec):
    """The latents that an earlier encode stage cached, or those in a folder."""

    kind: Literal["latents"] = "latents"
    builds: ClassVar[str] = "diffusability.core.data.latents.latents:Latents"
    holds = "latents"
    stage: Annotated[str | None, StageReference(("encode",))] = Field(
        None, description="an earlier stage of kind encode"
    )
    path: Path | None = Field(None, description="instead of a stage: a folder `latents` that another run wrote")
    autoencoder: AnyAutoencoder | None = Field(
        None, description="with path: the autoencoder that must have made it, which decodes samples"
    )
    images: AnyDataset | None = Field(None, description="with path: the images and the transform it must be made of")
    new_normalizer: bool = Field(
        False, description="let a denoiser that was trained with another normaliser continue with that of these latents"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "LatentsSpec":
        if (self.stage is None) == (self.path is None):
            raise ValueError("give exactly one of 'stage' and 'path'")
        if self.path is not None and self.autoencoder is None:
            raise ValueError("with 'path', name the 'autoencoder' that made these latents")
        if self.stage is not None and (self.autoencoder is not None or self.images is not None):
            raise ValueError("a stage knows its autoencoder and its images; leave 'autoencoder' and 'images' out")
        return self

    def check_inputs(self) -> None:
        if self.path is not None and not (self.path / "cache.json").is_file():
            raise ValueError(f"path {str(self.path)!r} holds no latent cache: cache.json is missing")
        try:
            self._index()
        except DataError as error:
            raise ValueError(str(error)) from None
        random = self.autoencoder.random_weights() if self.autoencoder is not None else ""
        if self.autoencoder is not None and random:
            raise ValueError(
                f"autoencoder {self.autoencoder.kind!r} cannot have made these latents: {random} are drawn at random"
                " here; expected the one that made them, such as kind 'saved' with its path"
            )

    def latent_shape(self) -> tuple[int, ...] | None:
        index = self._index()
        return None if index is None else tuple(index["shape"])

    def unlabelled(self) -> str | None:
        index = self._index()
        return "num_classes null in cache.json" if index is not None and index["num_classes"] is None else None

    def _index(self) -> dict[str, Any] | None:
        """What the cache at ``path`` says of itself; None without one."""
        if self.path is None or not (self.path / "cache.json").is_file():
            return None
        path = self.path / "cache.json"
        content = read_json_object(path, "latent cache")
        shape = content.get("shape")
        if (
            not isinstance(shape, list)
            or not all(isinstance(size, int) for size in shape)
            or "num_classes" not in content
        ):
            raise DataError(f"latent cache {str(path)!r} is damaged: 'shape' or 'num_classes' is missing; encode again")
        return content
