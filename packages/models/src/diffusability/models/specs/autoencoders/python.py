"""The kind ``python`` of autoencoders. Free of torch."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from diffusability.core.errors import CheckpointError
from diffusability.core.plugins import registry
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.specs.python import FromFile
from diffusability.models.weight_files import check_weight_file


class PythonAutoencoderSpec(FromFile, AutoencoderSpec):
    """An autoencoder of your own, from a file: any nn.Module with encode and decode."""

    kind: Literal["python"] = "python"
    builds: ClassVar[str] = "diffusability.models.autoencoders.python_autoencoder:PythonAutoencoder"
    checkpoint: Path | None = Field(
        None, description="weights, .safetensors or a torch file of tensors; default: as the target makes them"
    )
    probe: tuple[int, ...] | None = Field(
        None, description="shape (c, h, w) or (c, t, h, w) of the input to try; default: several are tried"
    )

    @field_validator("probe")
    @classmethod
    def _is_shape(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (len(value) not in (3, 4) or min(value) < 1):
            raise ValueError(
                f"probe is {value!r}; expected (channels, height, width) or (channels, frames, height, width)"
            )
        return value

    def check_inputs(self) -> None:
        super().check_inputs()
        if self.checkpoint is not None:
            try:
                check_weight_file(self.checkpoint)
            except CheckpointError as error:
                raise ValueError(str(error)) from None

    def info(self, context: BuildContext) -> AutoencoderInfo | None:
        """What a small input shows. Builds the model once, as only the model can tell."""
        probe = self._probe()
        return None if probe is None else probe.info

    def num_parameters(self, context: BuildContext) -> int | None:
        probe = self._probe()
        return None if probe is None else probe.num_parameters

    def is_pretrained(self, context: BuildContext) -> bool:
        return not self.random_weights()

    def random_weights(self) -> str:
        """What differs between two calls of the target; nothing of one that loads its weights itself."""
        probe = None if self.checkpoint is not None else self._probe()
        return "" if probe is None else probe.random_weights

    def builds_untrained(self) -> bool:
        return False

    def _probe(self) -> Any:
        if not self.source.path.is_file():  # check_inputs says so
            return None
        return registry.imported("diffusability.models.autoencoders.probing:probe_of", repr(self.target))(self)
