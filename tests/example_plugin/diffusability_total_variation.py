"""Total variation of the latents."""

from typing import Literal

from diffusability.core import Regularizer, RegularizerSpec


class TotalVariation(Regularizer):
    def __init__(self, spec):
        super().__init__()

    def forward(self, output, objective):
        latents = output.latents
        return latents.diff(dim=-1).abs().mean() + latents.diff(dim=-2).abs().mean()


class TotalVariationSpec(RegularizerSpec):
    """Mean absolute difference of neighbouring latents."""

    kind: Literal["total-variation"] = "total-variation"
    builds = "diffusability_total_variation:TotalVariation"
    needs = frozenset({"latents"})
