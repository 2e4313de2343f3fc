"""The kind ``diffusers``, and what it shares with the presets. Free of torch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from diffusability.core.errors import CheckpointError
from diffusability.core.specs.base import LocalPath, files_at
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.specs.contents import FileSet
from diffusability.models.specs.autoencoders.diffusers_layout import (
    class_of,
    info_of,
    is_pipeline,
    read_config,
    weight_files,
)

if TYPE_CHECKING:
    pass

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class DiffusersFamilySpec(AutoencoderSpec):
    """What all autoencoders of diffusers have in common."""

    builds: ClassVar[str] = "diffusability.models.autoencoders.diffusers_loading:build_diffusers"

    path: Annotated[str | None, LocalPath()] = Field(
        None, description="a folder, or an id on the Hugging Face hub such as stabilityai/sdxl-vae"
    )
    subfolder: str | None = Field(
        None, description="where in it the autoencoder is; in a local folder of a whole pipeline, 'vae' is found"
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the weights; training needs float32"
    )
    tiling: bool = Field(
        False, description="encode and decode large images in overlapping tiles, long clips in chunks of frames"
    )
    slicing: bool = Field(False, description="encode and decode one sample of a batch at a time")

    def folder(self) -> Path | None:
        """The local folder with the autoencoder, or None for one on the hub or without weights."""
        if self.path is None or not Path(self.path).is_dir():
            return None
        folder = Path(self.path) / (self.subfolder or "")
        return (
            folder / "vae" if self.subfolder is None and is_pipeline(folder) and (folder / "vae").is_dir() else folder
        )

    def untrained(self) -> dict[str, Any]:
        """The configuration of an autoencoder with random weights."""
        raise TypeError(f"{type(self).__name__} must say what it builds without a path")

    def check_class(self, config: Mapping[str, Any], where: str) -> None:
        """Raises CheckpointError when what was found is not of the class that is expected."""
        class_of(config, where)

    def patchifies(self) -> bool:
        """True when 2 by 2 latent pixels are to be put into channels."""
        return False

    def check_inputs(self) -> None:
        if self.path is None:
            return
        folder = self.folder()
        if folder is None:
            if not _HUB_ID.fullmatch(self.path) or self.path.startswith("."):
                raise ValueError(
                    f"there is no folder {self.path!r}; expected one, or an id on the hub such as owner/name"
                )
            return
        try:
            self.check_class(read_config(folder), repr(str(folder)))
            weight_files(folder)
        except CheckpointError as error:
            raise ValueError(str(error)) from None

    def _config(self) -> dict[str, Any] | None:
        if self.path is None:
            return self.untrained()
        folder = self.folder() or self._cached()
        return read_config(folder) if folder is not None else None

    def _cached(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        assert self.path is not None
        name = "/".join(filter(None, (self.subfolder, "config.json")))
        found = try_to_load_from_cache(self.path, name, revision=self.revision)
        return Path(found).parent if isinstance(found, str) else None

    def info(self, context: BuildContext) -> AutoencoderInfo | None:
        try:
            config = self._config()
        except (CheckpointError, OSError):  # check_inputs says so
            return None
        return info_of(config, self.patchifies()) if config is not None else None

    def files_read(self) -> dict[str, FileSet]:
        folder = self.folder()
        return {"path": files_at(folder)} if folder is not None and folder.is_dir() else {}

    def is_pretrained(self, context: BuildContext) -> bool:
        return self.path is not None

    def architecture(self) -> dict[str, Any] | None:
        """The configuration of what is built, as far as it is known without asking the hub."""
        return self._config()

    def builds_untrained(self) -> bool:
        try:
            return self.architecture() is not None
        except (CheckpointError, OSError):  # check_inputs says so
            return False


class DiffusersSpec(DiffusersFamilySpec):
    """An autoencoder of diffusers: a folder or an id on the hub; its class is read from its config.json."""

    kind: Literal["diffusers"] = "diffusers"
    config: dict[str, Any] | None = Field(
        None, description="in place of a path: the content of a config.json, built with random weights"
    )
    patchify: bool = Field(
        False, description="AutoencoderKLFlux2 only: put 2 by 2 latent pixels into channels, as its pipeline does"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "DiffusersSpec":
        if (self.path is None) == (self.config is None):
            raise ValueError("give exactly one of 'path' and 'config'")
        if self.config is not None:
            try:
                name = class_of(self.config, "config")
            except CheckpointError as error:
                raise ValueError(str(error)) from None
            try:
                info_of(self.config)
            except CheckpointError as error:
                raise ValueError(f"config: {error}") from None
            if self.patchify and name != "AutoencoderKLFlux2":
                raise ValueError(f"patchify is for AutoencoderKLFlux2, and the config is for {name}")
        return self

    def untrained(self) -> dict[str, Any]:
        assert self.config is not None
        return self.config

    def patchifies(self) -> bool:
        return self.patchify
