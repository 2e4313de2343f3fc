"""What a YAML file says of the decoder's smoothness."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat

from diffusability.core.specs.components import RegularizerSpec

if TYPE_CHECKING:
    from diffusability.core.specs.engine import EngineSpec


class DecoderLipschitzSpec(RegularizerSpec):
    """Squared gradient of the decoder with respect to its latents (R1)."""

    kind: Literal["decoder-lipschitz"] = "decoder-lipschitz"
    builds: ClassVar[str] = "diffusability.regularizers.terms.decoder_lipschitz:DecoderLipschitz"
    needs: ClassVar[frozenset[str]] = frozenset({"latents", "reconstruction"})

    weight: float = Field(0.1, ge=0)
    estimator: Literal["frobenius", "sum"] = Field(
        "frobenius",
        description="frobenius: squared slopes of all pixels, per pixel; sum: the authors' quantity, the squared"
        " gradient of the sum of all pixels, per latent value, in which slopes of opposite sign cancel; each wants a"
        " weight of its own",
    )
    estimate: Literal["difference", "gradient"] = Field(
        "difference",
        description="difference: along a random direction, one more decoding; gradient: the exact gradient of a random"
        " projection, differentiated twice, not at ZeRO stage 3",
    )
    step: PositiveFloat = Field(
        0.1, description="length of the difference per latent dimension, in standard deviations of the latents"
    )

    def check_engine(self, engine: "EngineSpec") -> None:
        if self.estimate == "gradient" and engine.zero_stage == 3:
            raise ValueError(
                f"{self.kind} with estimate 'gradient' differentiates twice, which ZeRO stage 3 cannot;"
                " expected estimate 'difference' or engine.zero_stage 0 to 2"
            )
