"""The kind ``taesd``. Free of torch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from diffusability.core.errors import CheckpointError
from diffusability.core.specs.base import at_home, fail
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.models.weight_files import check_weight_file, read_header

if TYPE_CHECKING:
    pass

_BLOCKS = 10
_POOLED_BLOCKS = 3
_LEVELS = 3


def layout_of(encoder: Path) -> dict[str, int | bool]:
    """The fields of a spec that the shapes of an encoder's weights tell.

    Raises:
        CheckpointError: the file is not a whole safetensors file, or not of a Tiny AutoEncoder.
    """
    header = read_header(encoder)
    wrapped = {name[: -len("0.weight")] for name in header if name.endswith(".0.weight") and name.count(".") == 2}
    if "0.weight" not in header and len(wrapped) == 1:
        (prefix,) = wrapped
        header = {name.removeprefix(prefix): entry for name, entry in header.items() if name.startswith(prefix)}
    convolutions = [name for name in header if re.fullmatch(r"\d+\.weight", name)]
    if "0.weight" not in convolutions:
        raise CheckpointError(f"{str(encoder)!r} is not the encoder of a Tiny AutoEncoder: it has no '0.weight'")
    last = max(convolutions, key=lambda name: int(name.split(".")[0]))
    return {
        "latent_channels": header[last]["shape"][0],
        "width": header["0.weight"]["shape"][0],
        "pooled_mid_blocks": any(".pool." in name for name in header),
    }


class TaesdSpec(AutoencoderSpec):
    """A Tiny AutoEncoder (TAESD, TAESDXL, TAESD3, TAEF1, TAEF2): small, deterministic, f8; weights from two files."""

    kind: Literal["taesd"] = "taesd"
    builds: ClassVar[str] = "diffusability.models.autoencoders.taesd:Taesd"
    latent_channels: PositiveInt = Field(4, description="4: TAESD, TAESDXL; 16: TAESD3, TAEF1; 32: TAEF2")
    pooled_mid_blocks: bool = Field(
        False, description="pooled, group-normalised blocks at the lowest resolution, as TAEF2 has them"
    )
    width: PositiveInt = Field(64, description="channels of every hidden layer; 64 in everything that is published")
    path: Path | None = Field(
        None, description="folder with encoder.safetensors and decoder.safetensors, from which the rest is read"
    )
    encoder: Path | None = Field(None, description="the encoder's weights, .safetensors or .pth; default: random ones")
    decoder: Path | None = Field(None, description="the decoder's weights, .safetensors or .pth; default: random ones")

    @model_validator(mode="before")
    @classmethod
    def _from_folder(cls, value: Any) -> Any:
        """Lets ``path`` name a folder with ``encoder.safetensors`` and ``decoder.safetensors``.

        The number of latent channels, the width and the kind of blocks are then read from the encoder.
        """
        if not isinstance(value, Mapping) or value.get("path") is None:
            return value
        folder = Path(at_home(value["path"]))
        files = {half: folder / f"{half}.safetensors" for half in ("encoder", "decoder")}
        missing = [path.name for path in files.values() if not path.is_file()]
        if missing:
            raise fail("path", f"folder {str(folder)!r} lacks {' and '.join(missing)}", value["path"], cls.__name__)
        others = {key: item for key, item in value.items() if key != "path"}
        try:
            return {**layout_of(files["encoder"]), **files, **others}
        except CheckpointError as error:
            raise fail("path", str(error), value["path"], cls.__name__) from None

    def check_inputs(self) -> None:
        for path in (self.encoder, self.decoder):
            if path is not None:
                try:
                    check_weight_file(path)
                except CheckpointError as error:
                    raise ValueError(str(error)) from None

    def info(self, context: BuildContext) -> AutoencoderInfo:
        return AutoencoderInfo(latent_channels=self.latent_channels, spatial_factor=8)

    def num_parameters(self, context: BuildContext) -> int:
        width, square = self.width, self.width**2
        block = 3 * (9 * square + width)
        pool = 2 * 4 * square + 2 * 4 * width
        half = _BLOCKS * block + _LEVELS * 9 * square + self.pooled_mid_blocks * _POOLED_BLOCKS * pool
        ends = 9 * width * (3 + self.latent_channels)
        return 2 * (half + ends + width) + self.latent_channels + 3

    def is_pretrained(self, context: BuildContext) -> bool:
        return self.encoder is not None or self.decoder is not None

    def random_weights(self) -> str:
        missing = [name for name, path in (("encoder", self.encoder), ("decoder", self.decoder)) if path is None]
        return "all weights" if len(missing) == 2 else "".join(f"the {half}'s weights" for half in missing)

    def builds_untrained(self) -> bool:
        return True
