"""The figure of channel statistics."""

from pathlib import Path

from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from diffusability.eval.figures.figure_style import LATENTS, RGB_POOLED, save


def draw_channel_statistics(
    directory: Path,
    mean: Float[Tensor, " c"],
    std: Float[Tensor, " c"],
    kurtosis: Float[Tensor, " c"],
    correlation: Float[Tensor, "c c"],
) -> list[Path]:
    """``channel-statistics``: mean ± standard deviation and excess kurtosis of each channel, and their correlations."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1.35, 1))
    spreads, tails, pairs = (figure.add_subplot(place) for place in (grid[0, 0], grid[1, 0], grid[:, 1]))
    channels = range(len(mean))
    spreads.errorbar(
        channels, mean.tolist(), std.tolist(), fmt="o", color=LATENTS["color"], markersize=3.5, elinewidth=1.4
    )
    spreads.set_ylabel("mean ± std")
    tails.bar(channels, kurtosis.nan_to_num(0.0).tolist(), color=RGB_POOLED["color"], width=0.7)
    tails.set_ylabel("excess kurtosis")
    tails.set_xlabel("channel")
    for axes in (spreads, tails):
        axes.set_xlim(-0.7, len(mean) - 0.3)
        axes.axhline(0, color="#8f8f8f", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    image = pairs.imshow(correlation.numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
    pairs.set_title("correlation of channels", fontsize="medium")
    pairs.set_xlabel("channel")
    for axis in (pairs.xaxis, pairs.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=pairs, shrink=0.8)
    return save(figure, directory, "channel-statistics")
