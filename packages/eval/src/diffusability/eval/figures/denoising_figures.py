"""Figures of the denoising spectrum. Darker is less known, also in grayscale."""

from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from diffusability.eval.figures.figure_style import save, style
from diffusability.eval.spectra.denoising_error import half_resolved_time

#: A colour map of steadily falling lightness.
_COLORS = "YlGnBu"
_TIME = "time t, from data (0) to noise (1)"
_MOST_CHANNELS = 16
_BANDS: tuple[tuple[str, str, str], ...] = (
    ("#123f7a", "-", "o"),
    ("#3d85c6", "--", "s"),
    ("#b9500f", "-.", "^"),
    ("#8f8f8f", ":", "D"),
)


def draw_denoising_spectrum(
    directory: Path,
    times: Float[Tensor, " t"],
    relative: Float[Tensor, "t c k"],
    wiener: Float[Tensor, "t c k"],
    block_size: int,
) -> list[Path]:
    """``denoising-spectrum``: a heat map of time by frequency; the error against time in bands of frequency, with the
    best linear denoiser's in thin lines; and the time until which each frequency is half resolved, also by channel.
    """
    figure = Figure(figsize=(13.0, 4.2), layout="constrained")
    heat, bands, resolved = figure.subplots(1, 3)
    mesh = _heat_map(heat, times, relative.mean(1))
    heat.set_ylabel(f"zigzag index of the {block_size}x{block_size} DCT frequency (0 is DC)")
    heat.set_title("error over energy, mean over channels", loc="left", fontsize="medium")
    figure.colorbar(mesh, ax=heat, label="relative error of the data (1: nothing known)")
    _draw_bands(bands, times, relative.mean(1), wiener.mean(1))
    _draw_resolved(resolved, half_resolved_time(relative, times), half_resolved_time(wiener, times), block_size)
    return save(figure, directory, "denoising-spectrum")


def _heat_map(axes: Axes, times: Float[Tensor, " t"], values: Float[Tensor, "t k"]) -> QuadMesh:
    middles = (times[1:] + times[:-1]) / 2
    edges = torch.cat([times[:1] * 2 - middles[:1], middles, times[-1:] * 2 - middles[-1:]]).clamp(0, 1)
    frequencies = torch.arange(values.shape[1] + 1) - 0.5
    mesh = axes.pcolormesh(edges.numpy(), frequencies.numpy(), values.T.numpy(), cmap=_COLORS, vmin=0, vmax=1)
    if bool((values > 0.5).any()) and bool((values < 0.5).any()):
        places = torch.arange(values.shape[1])
        axes.contour(times.numpy(), places.numpy(), values.T.numpy(), levels=[0.5], colors="black", linewidths=1.4)
    axes.set_xlabel(_TIME)
    return mesh


def _draw_bands(
    axes: Axes, times: Float[Tensor, " t"], relative: Float[Tensor, "t k"], wiener: Float[Tensor, "t k"]
) -> None:
    style(axes)
    count = relative.shape[1]
    bounds = [0, 1, count // 8, count // 2, count]
    for (color, line, marker), first, last in zip(_BANDS, bounds[:-1], bounds[1:], strict=True):
        label = "DC" if last == 1 else f"zigzag {first}" + (f" to {last - 1}" if last - 1 > first else "")
        axes.plot(
            times.numpy(),
            relative[:, first:last].mean(1).numpy(),
            color=color,
            linestyle=line,
            marker=marker,
            markersize=4,
            label=label,
        )
        axes.plot(times.numpy(), wiener[:, first:last].mean(1).numpy(), color=color, linewidth=0.8, alpha=0.7)
    axes.plot([], [], color="#555555", linewidth=0.8, label="best linear denoiser")
    axes.set_ylim(0, max(1.05, float(relative.max()) * 1.02))
    axes.set_xlim(0, 1)
    axes.set_xlabel(_TIME)
    axes.set_ylabel("relative error of the data")
    axes.set_title("error by band of frequency", loc="left", fontsize="medium")
    axes.legend(frameon=False, fontsize="small")


def _draw_resolved(axes: Axes, resolved: Float[Tensor, "c k"], linear: Float[Tensor, "c k"], block_size: int) -> None:
    style(axes)
    places = torch.arange(resolved.shape[1]).numpy()
    for channel in resolved[:_MOST_CHANNELS]:
        axes.plot(places, channel.numpy(), color="#9db7d5", linewidth=0.7)
    axes.plot([], [], color="#9db7d5", linewidth=0.7, label="one channel")
    axes.plot(places, resolved.mean(0).numpy(), color="#123f7a", linewidth=2.0, label="mean over channels")
    axes.plot(places, linear.mean(0).numpy(), color="#b9500f", linestyle="--", label="best linear denoiser")
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"zigzag index of the {block_size}x{block_size} DCT frequency (0 is DC)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("time t until which it is half resolved")
    axes.set_title("which frequencies are resolved when", loc="left", fontsize="medium")
    axes.legend(frameon=False, fontsize="small")


def draw_channels(directory: Path, times: Float[Tensor, " t"], relative: Float[Tensor, "t c k"]) -> list[Path]:
    """``denoising-spectrum-channels``: a heat map of time by frequency for each of the first 16 channels."""
    count = min(_MOST_CHANNELS, relative.shape[1])
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(2.9 * columns + 0.8, 2.4 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for channel, axes in enumerate(panels.flat):
        if channel >= count:
            axes.set_visible(False)
            continue
        mesh = _heat_map(axes, times, relative[:, channel])
        axes.set_title(f"channel {channel}", loc="left", fontsize="medium")
        axes.label_outer()
    figure.supylabel("zigzag index of the DCT frequency", fontsize="medium")
    figure.colorbar(mesh, ax=panels.ravel().tolist(), label="relative error of the data")
    return save(figure, directory, "denoising-spectrum-channels")
