"""Kinds that refer to models made elsewhere: by an earlier stage, or saved in a folder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from diffusability.core.build import AutoencoderInfo, BuildContext
from diffusability.core.errors import SpecError, nearest
from diffusability.core.specs.base import StageReference
from diffusability.core.specs.components import AutoencoderSpec, DenoiserSpec

if TYPE_CHECKING:
    from diffusability.core.autoencoder import Autoencoder
    from diffusability.core.denoiser import Denoiser


#: What ``config.json`` of a saved model says that it is.
AUTOENCODER_FORMAT = "diffusability-autoencoder"
DENOISER_FORMAT = "diffusability-denoiser"


def _check_format(folder: Path, expected: str) -> None:
    """Raises ValueError when a saved model is not of the expected format."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(folder / 'config.json')!r} cannot be read: {error}") from None
    found = config.get("format") if isinstance(config, dict) else None
    if found != expected:
        raise ValueError(f"{str(folder)!r} holds a model of format {found!r}; expected {expected!r}")


class StageAutoencoderSpec(AutoencoderSpec):
    """The autoencoder that an earlier training stage of this spec made."""

    kind: Literal["stage"] = "stage"
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

    def build(self, context: BuildContext) -> "Autoencoder":
        from diffusability.core.saved_models import load_autoencoder

        return load_autoencoder(context.stage_directory(self.stage) / "model")


class SavedAutoencoderSpec(AutoencoderSpec):
    """An autoencoder in a folder that a training stage wrote (``.../model``)."""

    kind: Literal["saved"] = "saved"
    path: Path

    def _inner(self) -> AutoencoderSpec:
        config = json.loads((self.path / "config.json").read_text())
        return AutoencoderSpec.model_validate(config["autoencoder"])

    def check_inputs(self) -> None:
        for name in ("config.json", "model.safetensors"):
            if not (self.path / name).is_file():
                raise ValueError(f"{str(self.path)!r} holds no saved autoencoder: {name} is missing")
        _check_format(self.path, AUTOENCODER_FORMAT)

    def info(self, context: BuildContext) -> AutoencoderInfo | None:
        return self._inner().info(context)

    def num_parameters(self, context: BuildContext) -> int | None:
        return self._inner().num_parameters(context)

    def is_pretrained(self, context: BuildContext) -> bool:
        return True

    def build(self, context: BuildContext) -> "Autoencoder":
        from diffusability.core.saved_models import load_autoencoder

        return load_autoencoder(self.path)


class StageDenoiserSpec(DenoiserSpec):
    """The denoiser that an earlier training stage of this spec made."""

    kind: Literal["stage"] = "stage"
    stage: Annotated[str, StageReference(("train",))]
    average: str | None = Field(
        None, description="which average of the weights, by its folder `model-NAME`; default: the one that stages get"
    )

    def trained_in(self, context: BuildContext) -> Path:
        directory = context.stage_directory(self.stage)
        if self.average is None:
            return directory / "model"
        found = directory / f"model-{self.average}"
        if not found.is_dir():
            there = sorted(path.name.removeprefix("model-") for path in directory.glob("model-*"))
            raise SpecError(
                f"stage {self.stage!r} has no average {self.average!r}; {nearest(self.average, there)}it has"
                f" {', '.join(map(repr, there)) or 'none but the first'}"
            )
        return found

    def build(self, context: BuildContext) -> "Denoiser":
        from diffusability.core.saved_models import load_diffusion_model

        return load_diffusion_model(self.trained_in(context)).denoiser


class SavedDenoiserSpec(DenoiserSpec):
    """A denoiser in a folder that a training stage wrote (``.../model``)."""

    kind: Literal["saved"] = "saved"
    path: Path

    def check_inputs(self) -> None:
        for name in ("config.json", "model.safetensors"):
            if not (self.path / name).is_file():
                raise ValueError(f"{str(self.path)!r} holds no saved denoiser: {name} is missing")
        _check_format(self.path, DENOISER_FORMAT)

    def is_unconditional(self) -> bool:
        """Whether the folder says that it has no classes; False where it says nothing."""
        config = self.path / "config.json"
        return config.is_file() and json.loads(config.read_text()).get("num_classes", 0) is None

    def trained_in(self, context: BuildContext) -> Path:
        return self.path

    def build(self, context: BuildContext) -> "Denoiser":
        from diffusability.core.saved_models import load_diffusion_model

        return load_diffusion_model(self.path).denoiser
