"""What a YAML file says of the statistics of latent channels. Free of torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from diffusability.core.build import BuildContext
from diffusability.core.specs.components import EvaluatorSpec

if TYPE_CHECKING:
    from diffusability.eval.evaluators.channel_statistics import ChannelStatisticsEvaluator


class ChannelStatisticsSpec(EvaluatorSpec):
    """Mean, standard deviation, kurtosis and correlation of the latents' channels."""

    kind: Literal["channel-statistics"] = "channel-statistics"
    needs: ClassVar[frozenset[str]] = frozenset({"latents"})

    def build(self, context: BuildContext) -> "ChannelStatisticsEvaluator":
        from diffusability.eval.evaluators.channel_statistics import ChannelStatisticsEvaluator

        return ChannelStatisticsEvaluator()
