"""Kinds that refer to models made elsewhere: by an earlier stage, or saved in a folder."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diffusability.core.errors import CheckpointError, SpecError, nearest
from diffusability.core.reading import reading
from diffusability.core.specs.base import StageReference
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec, DenoiserSpec
from diffusability.core.specs.files.carried import refuse_code, spec_of
from diffusability.core.specs.files.contents import FileSet
from diffusability.core.specs.files.saved_format import (
    AUTOENCODER,
    AUTOENCODER_FORMAT,
    CONFIG,
    DENOISER,
    DENOISER_FORMAT,
    INFO,
    check_saved,
    read_saved_config,
)
from diffusability.core.specs.python import code_sets


def untrained_message(kind: str) -> str:
    """What is wrong with a denoiser that describes a fresh model where a trained one is needed."""
    return f"denoiser {kind!r} is not a trained one; expected kind 'stage', 'saved' or 'published'"


class StageAutoencoderSpec(AutoencoderSpec):
    """The autoencoder that an earlier training stage of this spec made."""

    kind: Literal["stage"] = "stage"
    builds: ClassVar[str] = "diffusability.core.models.saved_models:autoencoder_of"
    stage: Annotated[str, StageReference(("train",))]

    def info(self, context: BuildContext) -> AutoencoderInfo | None:
        spec = context.stage_autoencoder(self.stage)
        return spec.info(context) if spec is not None else None

    def num_parameters(self, context: BuildContext) -> int | None:
        spec = context.stage_autoencoder(self.stage)
        return spec.num_parameters(context) if spec is not None else None

    def is_pretrained(self, context: BuildContext) -> bool:
        spec = context.stage_autoencoder(self.stage)
        return spec is not None and spec.is_pretrained(context)

    def random_weights(self) -> str:
        return ""


class SavedAutoencoderSpec(AutoencoderSpec):
    """An autoencoder in a folder that a training stage wrote (``.../model``)."""

    kind: Literal["saved"] = "saved"
    builds: ClassVar[str] = "diffusability.core.models.saved_models:autoencoder_of"
    path: Path
    trust_code: bool = Field(False, description="run the code that a model of kind 'python' carries in its folder")

    def _inner(self) -> AutoencoderSpec:
        check_saved(self.path, AUTOENCODER_FORMAT)
        with reading("saved autoencoder", self.path / CONFIG, CheckpointError):
            return AutoencoderSpec.model_validate(spec_of(read_saved_config(self.path), AUTOENCODER, self.path))

    def check_inputs(self) -> None:
        try:
            refuse_code(self._inner(), self.path, self.trust_code)
        except CheckpointError as error:
            raise ValueError(str(error)) from None

    def code(self) -> tuple[FileSet, ...]:
        try:
            return code_sets(self._inner()) if self.trust_code else ()
        except (CheckpointError, ValueError):  # check_inputs says so
            return ()

    def info(self, context: BuildContext) -> AutoencoderInfo | None:
        check_saved(self.path, AUTOENCODER_FORMAT)
        kept = read_saved_config(self.path).get(INFO)
        if isinstance(kept, dict):
            with reading("saved autoencoder", self.path / CONFIG, CheckpointError):
                return AutoencoderInfo(**kept)
        return self._inner().info(context)

    def num_parameters(self, context: BuildContext) -> int | None:
        return self._inner().num_parameters(context)

    def is_pretrained(self, context: BuildContext) -> bool:
        return True


class StageDenoiserSpec(DenoiserSpec):
    """The denoiser that an earlier training stage of this spec made."""

    kind: Literal["stage"] = "stage"
    builds: ClassVar[str] = "diffusability.core.models.saved_models:denoiser_of"
    stage: Annotated[str, StageReference(("train",))]
    average: str | None = Field(
        None, description="which average of the weights, by its folder `model-NAME`; default: the one that stages get"
    )

    def trained_in(self, context: BuildContext) -> Path:
        directory = context.stage_directory(self.stage)
        if self.average is None:
            return directory / "model"
        folder = directory / f"model-{self.average}"
        if not folder.is_dir():
            there = sorted(path.name.removeprefix("model-") for path in directory.glob("model-*"))
            raise SpecError(
                f"stage {self.stage!r} has no average {self.average!r}; {nearest(self.average, there)}it has"
                f" {', '.join(map(repr, there)) or 'none but the first'}"
            )
        return folder


class SavedDenoiserSpec(DenoiserSpec):
    """A denoiser in a folder that a training stage wrote (``.../model``)."""

    kind: Literal["saved"] = "saved"
    builds: ClassVar[str] = "diffusability.core.models.saved_models:denoiser_of"
    path: Path
    trust_code: bool = Field(False, description="run the code that a model of kind 'python' carries in its folder")

    def _inner(self) -> DenoiserSpec:
        check_saved(self.path, DENOISER_FORMAT)
        with reading("saved denoiser", self.path / CONFIG, CheckpointError):
            return DenoiserSpec.model_validate(spec_of(read_saved_config(self.path), DENOISER, self.path))

    def check_inputs(self) -> None:
        try:
            refuse_code(self._inner(), self.path, self.trust_code)
        except CheckpointError as error:
            raise ValueError(str(error)) from None

    def code(self) -> tuple[FileSet, ...]:
        try:
            return code_sets(self._inner()) if self.trust_code else ()
        except (CheckpointError, ValueError):  # check_inputs says so
            return ()

    def is_unconditional(self) -> bool:
        """Whether the folder says that it has no classes; False where it says nothing."""
        try:
            return read_saved_config(self.path).get("num_classes", 0) is None
        except CheckpointError:  # check_inputs says so
            return False

    def trained_in(self, context: BuildContext) -> Path:
        return self.path
