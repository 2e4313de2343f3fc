"""Statistics of the channels of latents."""

from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffusability.core.contracts.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.specs.spectra import ChannelStatisticsSpec
from diffusability.eval.spectra.channel_moments import ChannelMoments
from diffusability.eval.streaming.jackknife import NUM_GROUPS, spread_of, without_each_group_of_all

#: Moments of all samples and of each group, and the places of the samples.
Seen = tuple[ChannelMoments, dict[int, ChannelMoments], list[int]]


class ChannelStatisticsEvaluator(Evaluator):
    """Distributions of raw latents over all samples and places, channel by channel.

    Curves over channels: ``channel_mean_curve``, ``channel_std_curve``, ``channel_kurtosis_curve`` (excess, 0 for a
    Gaussian; constant channels are left out). Numbers: ``channel_std_ratio``, the largest standard deviation over the
    smallest of channels that vary; ``channel_kurtosis``, the mean excess kurtosis; ``channel_correlation``, the mean
    absolute correlation of pairs of different channels; ``constant_channels``, how many do not vary.
    """

    def __init__(self) -> None:
        self._moments = ChannelMoments()
        self._groups: dict[int, ChannelMoments] = {}
        self._indices: list[int] = []

    @classmethod
    def from_spec(cls, spec: ChannelStatisticsSpec, context: BuildContext) -> "ChannelStatisticsEvaluator":
        return cls()

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch. Raises DataError when latents have another number of channels than before."""
        assert batch.latents is not None
        self._moments.update(batch.latents)
        numbers = torch.tensor([index % NUM_GROUPS for index in batch.indices], device=batch.latents.device)
        for group in sorted(set(numbers.tolist())):
            self._groups.setdefault(group, ChannelMoments()).update(batch.latents[numbers == group])
        self._indices += batch.indices

    def state(self) -> Seen:
        return self._moments.on_cpu(), {group: part.on_cpu() for group, part in self._groups.items()}, self._indices

    def merge(self, state: Seen) -> None:
        moments, groups, indices = state
        self._moments.merge(moments)
        for group, part in groups.items():
            self._groups.setdefault(group, ChannelMoments()).merge(part)
        self._indices += indices

    def _without(self, left_out: int) -> ChannelMoments:
        joined = ChannelMoments()
        for group in sorted(self._groups):
            if group != left_out:
                joined.merge(self._groups[group])
        return joined

    def compute(self) -> list[EvalResult]:
        """Curves and numbers. Raises DataError when nothing was seen."""
        varying = self._moments.varying()
        std = self._moments.variance().clamp(min=0).sqrt()
        kurtosis = self._moments.excess_kurtosis()
        numbers, left_out = without_each_group_of_all(
            self._indices,
            lambda group: _numbers(self._moments if group is None else self._without(group), varying),
        )
        spec = {"spread_over": f"jackknife of {NUM_GROUPS} groups of images"}
        everything = torch.ones_like(varying)
        curves = {
            "channel_mean_curve": (self._moments.gaussian.mean, everything, "mean"),
            "channel_std_curve": (std, everything, "standard deviation"),
            "channel_kurtosis_curve": (kurtosis, varying, "excess kurtosis"),
        }
        return [
            *(
                EvalResult(metric=metric, curve=_curve(values, shown, label), num_samples=len(self._indices))
                for metric, (values, shown, label) in curves.items()
                if shown.any()
            ),
            *(
                EvalResult(
                    metric=metric,
                    value=value,
                    num_samples=len(self._indices),
                    spread=spread_of(left_out[metric], value),
                    spec=spec,
                    values=left_out[metric],
                )
                for metric, value in numbers.items()
            ),
        ]

    def draw(self, directory: Path) -> list[Path]:
        from diffusability.eval.figures.channel_figure import draw_channel_statistics

        moments = self._moments
        return draw_channel_statistics(
            directory,
            moments.gaussian.mean.cpu(),
            moments.variance().clamp(min=0).sqrt().cpu(),
            moments.excess_kurtosis().cpu(),
            moments.correlation().cpu(),
        )


def _numbers(moments: ChannelMoments, varying: Bool[Tensor, " c"]) -> dict[str, float]:
    """The numbers of these moments; ``varying`` are the channels that are not constant over all latents."""
    numbers = {"constant_channels": float((~varying).sum())}
    if varying.any():
        std, kurtosis = moments.variance().clamp(min=0).sqrt(), moments.excess_kurtosis()
        numbers |= {
            "channel_std_ratio": float(std[varying].max() / std[varying].min()),
            "channel_kurtosis": float(kurtosis[varying].mean()),
            "channel_correlation": _mean_correlation(moments.correlation()),
        }
    return numbers


def _mean_correlation(correlation: Float[Tensor, "c c"]) -> float:
    """Mean absolute value off the diagonal; 0 of a single channel."""
    count = len(correlation)
    if count < 2:
        return 0.0
    off_diagonal = correlation.abs().sum() - correlation.diagonal().abs().sum()
    return float(off_diagonal / (count * (count - 1)))


def _curve(values: Float[Tensor, " c"], shown: Tensor, label: str) -> Curve:
    """The values of the channels that are shown, against their number."""
    places = shown.nonzero().flatten()
    return Curve(x=places.double().tolist(), y=values[shown].tolist(), x_label="channel", y_label=label)
