"""Total variation of the latents."""

from typing import Literal

from diffusability.core import Regularizer, RegularizerSpec


class TotalVariation(Regularizer):
    needs = frozenset({"latents"})

    def forward(self, output, task):
        latents = output.latents
        return latents.diff(dim=-1).abs().mean() + latents.diff(dim=-2).abs().mean()


class TotalVariationSpec(RegularizerSpec):
    """Mean absolute difference of neighbouring latents."""

    kind: Literal["total-variation"] = "total-variation"
    needs = frozenset({"latents"})

    def build(self, context):
        return TotalVariation()
