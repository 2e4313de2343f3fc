"""The kind ``diffusers``, and what it shares with the presets. Free of torch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from diffusability.core.errors import CheckpointError
from diffusability.core.reading import read_json_object
from diffusability.core.specs.base import LocalPath, files_at
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.specs.files.contents import FileSet
from diffusability.models.specs.autoencoders.diffusers_classes import LAYOUTS
from diffusability.models.specs.autoencoders.diffusers_layout import (
    class_of,
    folder_within,
    info_of,
    read_config,
    weight_files,
)
from diffusability.models.specs.autoencoders.single_file import read_single_file
from diffusability.models.weight_files import WEIGHT_SUFFIXES, check_weight_file

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class DiffusersFamilySpec(AutoencoderSpec):
    """What all autoencoders of diffusers have in common."""

    builds: ClassVar[str] = "diffusability.models.autoencoders.diffusers_loading:build_diffusers"

    path: Annotated[str | None, LocalPath()] = Field(
        None, description="a folder, a single file of weights, or an id on the Hugging Face hub (stabilityai/sdxl-vae)"
    )
    subfolder: str | None = Field(
        None, description="where in it the autoencoder is; in a local folder of a whole pipeline, 'vae' is found"
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="of the weights; training needs float32; float16 rounds them to it and computes in float32",
    )
    tiling: bool | None = Field(
        None,
        description="encode and decode large images in overlapping tiles, long clips in chunks of frames; default: only"
        " for classes that were published tiled",
    )
    slicing: bool = Field(False, description="encode and decode one sample of a batch at a time")

    def folder(self) -> Path | None:
        """The local folder with the autoencoder, or None for one on the hub or without weights."""
        if self.path is None or not Path(self.path).is_dir():
            return None
        return folder_within(Path(self.path), self.subfolder)

    def file(self) -> Path | None:
        """The single file of weights that the path names, or None."""
        return Path(self.path) if self.path is not None and Path(self.path).is_file() else None

    def config_of_file(self, file: Path) -> dict[str, Any]:
        """The configuration of a single file: of the config.json beside it, or read from names and shapes.

        Raises:
            CheckpointError: the file cannot be read, or its layout is not known.
        """
        beside = file.parent / "config.json"
        if beside.is_file() and "_class_name" in read_json_object(beside, "the configuration", CheckpointError):
            return read_config(file.parent)
        return read_single_file(file)

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
        folder, file = self.folder(), self.file()
        if file is not None:
            try:
                if self.subfolder is not None:
                    raise CheckpointError(f"subfolder {self.subfolder!r} is for folders, and {self.path!r} is a file")
                check_weight_file(file)
                self.check_class(self.config_of_file(file), repr(str(file)))
            except CheckpointError as error:
                raise ValueError(str(error)) from None
            return
        if folder is None:
            if Path(self.path).suffix in WEIGHT_SUFFIXES:
                raise ValueError(f"there is no file {self.path!r}; expected weights, a folder, or an id on the hub")
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
        file = self.file()
        if file is not None:
            return self.config_of_file(file)
        folder = self.folder() or self._cached()
        return read_config(folder) if folder is not None else None

    def _cached(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        assert self.path is not None
        for subfolder in (self.subfolder,) if self.subfolder else (None, "vae"):
            name = "/".join(filter(None, (subfolder, "config.json")))
            cached = try_to_load_from_cache(self.path, name, revision=self.revision)
            if isinstance(cached, str):
                return Path(cached).parent
        return None

    def info(self, context: BuildContext) -> AutoencoderInfo | None:
        try:
            config = self._config()
        except (CheckpointError, OSError):  # check_inputs says so
            return None
        return info_of(config, self.patchifies()) if config is not None else None

    def files_read(self) -> dict[str, FileSet]:
        place = self.file() or self.folder()
        return {"path": files_at(place)} if place is not None and place.exists() else {}

    def is_pretrained(self, context: BuildContext) -> bool:
        return self.path is not None

    def remarks(self, context: BuildContext) -> list[str]:
        try:
            config = self._config()
            tiled = config is not None and LAYOUTS[class_of(config, "config")].tiled
        except (CheckpointError, OSError):  # check_inputs says so
            return []
        if not tiled or self.tiling is not None:
            return []
        return [f"autoencoder {self.kind!r} runs in overlapping tiles, as it was published (tiling: false: whole)"]

    def architecture(self) -> dict[str, Any] | None:
        """The configuration of what is built, as far as it is known without asking the hub."""
        return self._config()

    def builds_untrained(self) -> bool:
        try:
            return self.architecture() is not None
        except (CheckpointError, OSError):  # check_inputs says so
            return False


class DiffusersSpec(DiffusersFamilySpec):
    """An autoencoder of diffusers: a folder or a hub id, its class read from its config.json; or a single file."""

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
            if self.tiling is False and name == "AutoencoderKLAllegro":
                raise ValueError("tiling is False, and diffusers runs AutoencoderKLAllegro in tiles only")
            if self.patchify and name != "AutoencoderKLFlux2":
                raise ValueError(f"patchify is for AutoencoderKLFlux2, and the config is for {name}")
        return self

    def untrained(self) -> dict[str, Any]:
        assert self.config is not None
        return self.config

    def patchifies(self) -> bool:
        return self.patchify
