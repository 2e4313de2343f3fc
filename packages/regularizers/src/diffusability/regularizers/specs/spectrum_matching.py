"""What a YAML file says of matching spectra."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from diffusability.core.specs.components import RegularizerSpec

if TYPE_CHECKING:
    pass


class SpectrumMatchingSpec(RegularizerSpec):
    """The latents' spectrum must follow the image's (encoding), or decode frequency by frequency (decoding)."""

    kind: Literal["spectrum-matching"] = "spectrum-matching"
    builds: ClassVar[str] = "diffusability.regularizers.terms.spectrum_matching:SpectrumMatching"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "latents"})

    match: Literal["encoding", "decoding"] = Field(
        "encoding",
        description="encoding: KL divergence of radial log power spectra; decoding: reconstruct with the same DCT"
        " frequencies masked in latents and image",
    )
    weight: float = Field(0.01, ge=0, description="0.01 suits `encoding`; for `decoding` try 0.25")
    num_bins: PositiveInt = Field(16, description="radial bins of the spectra, for `encoding`")
    flattening: float = Field(
        1.0, ge=0, description="the image's power is multiplied by the bin's number to this power, for `encoding`"
    )
    min_cutoff: float = Field(
        0.25, gt=0, lt=1, description="the radius kept is drawn from [min_cutoff, 1) of the largest, for `decoding`"
    )
    perceptual: bool = Field(False, description="compare with the objective's perceptual terms too, for `decoding`")

    def check_latents(self, latent_shape: tuple[int, ...]) -> None:
        height, width = latent_shape[-2:]
        if min(height, width) < 2:
            raise ValueError(f"{self.kind}: latents of {height}x{width} have no spectrum; expected at least 2x2")
