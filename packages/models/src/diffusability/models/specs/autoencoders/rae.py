"""What YAML says of representation autoencoders. Free of torch."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
from pydantic import Field, PositiveInt, field_validator, model_validator

from diffusability.core.errors import CheckpointError
from diffusability.core.extras import require_package
from diffusability.core.plugins import registry
from diffusability.core.published_weights import hub_snapshots
from diffusability.core.specs.base import Spec
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.specs.files.contents import FileSet
from diffusability.models.weight_files import check_weight_file

_FACTS = "diffusability.models.autoencoders.representation.encoder:facts_of"


@attrs.frozen
class DecoderSize:
    """Depth and width behind the name of a decoder."""

    depth: int
    width: int
    num_heads: int
    mlp_size: int


#: B, L and XL as in Zheng et al. (2025), table 11; Ti and S as in Touvron et al. (2021), for tests and laptops.
DECODER_SIZES = {
    "Ti": DecoderSize(12, 192, 3, 768),
    "S": DecoderSize(12, 384, 6, 1536),
    "B": DecoderSize(12, 768, 12, 3072),
    "L": DecoderSize(24, 1024, 16, 4096),
    "XL": DecoderSize(28, 1152, 16, 4096),
}


class TimmEncoderSpec(Spec):
    """A vision transformer of timm, frozen; its patch tokens are the latents."""

    kind: Literal["timm"] = "timm"
    model: str = Field(
        description="timm's name, such as vit_base_patch14_reg4_dinov2.lvd142m, vit_base_patch16_dinov3.lvd1689m,"
        " vit_base_patch16_224.mae or vit_base_patch16_siglip_256.v2_webli"
    )
    pretrained: Path | Literal["random"] | None = Field(
        None,
        description="file of weights, timm's or the authors'; default: timm's in Hugging Face's cache; random: none",
    )
    options: dict[str, Any] = Field({}, description="keyword arguments of timm.create_model, such as depth or img_size")

    def weights_file(self) -> Path | None:
        """The file with the weights; None for random ones. Nothing is downloaded.

        Raises:
            ValueError: it is not there; says which file is meant, and where to put it.
        """
        if self.pretrained == "random":
            return None
        if self.pretrained is not None:
            try:
                check_weight_file(self.pretrained)
            except CheckpointError as error:
                raise ValueError(str(error)) from None
            return self.pretrained
        if "." not in self.model:
            raise ValueError(
                f"encoder {self.model!r} names an architecture, and no weights of it; expected pretrained: a file of"
                f" weights, or a name with timm's tag, such as {self.model}.lvd142m, or pretrained: random"
            )
        repository = f"timm/{self.model}"
        for folder in hub_snapshots(repository):
            if (folder / "model.safetensors").is_file():
                return folder / "model.safetensors"
        raise ValueError(
            f"encoder {self.model!r} needs 'model.safetensors' of {repository!r}, and Hugging Face's cache does not"
            f" hold it; run: hf download {repository} model.safetensors; or download it elsewhere and name the file as"
            " pretrained"
        )


class RAEDecoderSpec(Spec):
    """A vision transformer from latents to pixels, as the decoder of a masked autoencoder."""

    size: Literal["Ti", "S", "B", "L", "XL"] = "XL"
    depth: PositiveInt | None = Field(None, description="transformer blocks; default: those of the size")
    width: PositiveInt | None = Field(None, description="width of a token, a multiple of 64; default: that of the size")
    patch_size: PositiveInt = Field(
        16,
        description="pixels that a latent stands for along each side; images are resized by the encoder's patch size"
        " over this one before they are encoded",
    )
    pretrained: Path | None = Field(
        None, description="weights to start from: a published decoder (model.pt), or one of diffusers' AutoencoderRAE"
    )

    @field_validator("width")
    @classmethod
    def _whole_heads(cls, width: int | None) -> int | None:
        if width is not None and width % 64:
            raise ValueError(f"width is {width!r}; expected a multiple of 64, the width of an attention head")
        return width

    @property
    def dimensions(self) -> DecoderSize:
        """Depth and width of what is built."""
        size = DECODER_SIZES[self.size]
        if self.width is not None and self.width != size.width:
            size = DecoderSize(size.depth, self.width, self.width // 64, 4 * self.width)
        return attrs.evolve(size, depth=self.depth or size.depth)


class RAESpec(AutoencoderSpec):
    """A representation autoencoder: a frozen vision transformer encodes, a trained one decodes (Zheng et al. 2025)."""

    kind: Literal["rae"] = "rae"
    builds: ClassVar[str] = "diffusability.models.autoencoders.representation.autoencoder:RAE"

    encoder: TimmEncoderSpec
    decoder: RAEDecoderSpec = RAEDecoderSpec()

    @model_validator(mode="after")
    def _four_sines(self) -> "RAESpec":
        assert self.decoder.dimensions.width % 4 == 0  # of positions; all sizes and multiples of 64 are
        return self

    def check_inputs(self) -> None:
        self.facts()
        self.encoder.weights_file()
        if self.decoder.pretrained is not None:
            try:
                check_weight_file(self.decoder.pretrained)
            except CheckpointError as error:
                raise ValueError(str(error)) from None

    def facts(self) -> Any:
        """What timm knows of the encoder; builds it on tensors without content, once: there is no other way to know.

        Raises:
            ValueError: timm is not installed, has no such model, it cannot be built with the options, or is not a
                vision transformer.
        """
        require_package("timm", "a representation autoencoder", "rae", "diffusability-models")
        return registry.imported(_FACTS, f"encoder {self.encoder.model!r}")(self.encoder)

    def info(self, context: BuildContext) -> AutoencoderInfo | None:
        try:
            facts = self.facts()
        except ValueError:  # check_inputs says so
            return None
        return AutoencoderInfo(latent_channels=facts.width, spatial_factor=self.decoder.patch_size)

    def num_parameters(self, context: BuildContext) -> int | None:
        """Of the encoder as timm makes it, and of the decoder in closed form."""
        try:
            facts = self.facts()
        except ValueError:  # check_inputs says so
            return None
        size = self.decoder.dimensions
        width, norm = size.width, 2 * size.width
        block = 4 * _linear(width, width) + _linear(width, size.mlp_size) + _linear(size.mlp_size, width) + 2 * norm
        pixels = _linear(width, 3 * self.decoder.patch_size**2)
        decoder = _linear(facts.width, width) + width + size.depth * block + norm + pixels
        return int(facts.num_parameters + decoder)

    def is_pretrained(self, context: BuildContext) -> bool:
        """As its decoder is: the encoder does not train."""
        return self.decoder.pretrained is not None

    def random_weights(self) -> str:
        random = {"encoder": self.encoder.pretrained == "random", "decoder": self.decoder.pretrained is None}
        names = [name for name, drawn in random.items() if drawn]
        return "all weights" if len(names) == len(random) else "".join(f"weights of the {name}" for name in names)

    def builds_untrained(self) -> bool:
        return True

    def files_read(self) -> dict[str, FileSet]:
        try:
            encoder = self.encoder.weights_file()
        except ValueError:  # check_inputs says so
            encoder = None
        files = {"encoder": encoder, "decoder": self.decoder.pretrained}
        return {
            name: FileSet(root=path, names=(), whole=True)
            for name, path in files.items()
            if path is not None and path.is_file()
        }


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
