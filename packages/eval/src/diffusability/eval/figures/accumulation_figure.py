"""The figure of error accumulation."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

from diffusability.eval.figures.figure_style import save, style

_CUMULATIVE = {"color": "#123f7a", "linestyle": "-", "linewidth": 2.0, "marker": "o", "markersize": 4}
_MODULAR = {"color": "#b9500f", "linestyle": "--", "linewidth": 1.6, "marker": "s", "markersize": 4}
_SUM = {"color": "#8f8f8f", "linestyle": ":", "linewidth": 1.6}


def draw_accumulation(
    directory: Path,
    times: Sequence[float],
    cumulative: Float[Tensor, "steps k"],
    modular: Float[Tensor, "steps k"],
    variance_ratio: Float[Tensor, "c k"],
    floor: float,
    block_size: int,
) -> list[Path]:
    """``error-accumulation``: errors along the sampler, which runs to the right; the cumulative error by frequency; and
    the variance of samples over that of the data by frequency, a thin line for each channel. ``floor``: what is
    left when nothing is wrong.
    """
    figure = Figure(figsize=(13.0, 4.2), layout="constrained")
    along, heat, spectrum = figure.subplots(1, 3)
    style(along)
    along.plot(times, cumulative.mean(1).numpy(), label="cumulative: all steps so far", **_CUMULATIVE)
    along.plot(times, modular.mean(1).numpy(), label="modular: this step alone", **_MODULAR)
    added = modular.mean(1).sqrt().cumsum(0).square()
    along.plot(times, added.numpy(), label="single errors so far, all in one direction", **_SUM)
    along.axhline(floor, color="black", linewidth=0.8, label="two sets of equal samples")
    along.set_yscale("log")
    low, high = along.get_ylim()
    along.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
    along.set_xlim(max(times) + 0.02, min(times) - 0.02)
    along.set_xlabel("time after the step, from noise (1) to data (0)")
    along.set_ylabel("divergence from noised data, nats a coefficient")
    along.set_title("error along the sampler", loc="left", fontsize="medium")
    along.legend(frameon=False, fontsize="small")

    values = cumulative.clamp_min(floor / 10).log10()
    edges = [1.0, *times]
    mesh = heat.pcolormesh(edges, (torch.arange(values.shape[1] + 1) - 0.5).numpy(), values.T.numpy(), cmap="YlGnBu")
    heat.invert_xaxis()
    heat.set_xlabel("time after the step, from noise (1) to data (0)")
    heat.set_ylabel(f"zigzag index of the {block_size}x{block_size} DCT frequency (0 is DC)")
    heat.set_title("cumulative error by frequency", loc="left", fontsize="medium")
    figure.colorbar(mesh, ax=heat, label="log10 of nats a coefficient")

    style(spectrum)
    places = torch.arange(variance_ratio.shape[1]).numpy()
    for channel in variance_ratio[:16]:
        spectrum.plot(places, channel.numpy(), color="#9db7d5", linewidth=0.7)
    spectrum.plot([], [], color="#9db7d5", linewidth=0.7, label="one channel")
    spectrum.plot(places, variance_ratio.log().mean(0).exp().numpy(), color="#123f7a", linewidth=2.0, label="mean")
    spectrum.axhline(1.0, color="black", linestyle="--", linewidth=1.0, label="as in the data")
    spectrum.set_yscale("log")
    spectrum.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    spectrum.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    spectrum.yaxis.set_minor_formatter(NullFormatter())
    low, high = spectrum.get_ylim()
    spectrum.set_ylim(min(low, 0.5), max(high, 2.0))
    spectrum.set_xlabel("zigzag index of the DCT frequency (0 is DC)")
    spectrum.set_ylabel("variance of samples over that of the data")
    spectrum.set_title("samples against data, by frequency", loc="left", fontsize="medium")
    spectrum.xaxis.set_major_locator(MaxNLocator(integer=True))
    spectrum.legend(frameon=False, fontsize="small")
    return save(figure, directory, "error-accumulation")
