"""The figure of spectra by channel."""

from pathlib import Path

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from diffusability.eval.figures.figure_style import save


def draw_channel_spectra(directory: Path, frequencies: list[float], log: Float[Tensor, "c k"]) -> list[Path]:
    """``map-spectrum``: log amplitude relative to DC, a row for each channel, the flattest spectra on top."""
    order = log.mean(1).argsort(descending=True)
    figure = Figure(figsize=(6.4, min(6.0, 1.6 + 0.14 * len(log))), layout="constrained")
    axes = figure.add_subplot()
    edges = [*(frequency - (frequencies[1] - frequencies[0]) / 2 for frequency in frequencies), frequencies[-1]]
    mesh = axes.pcolormesh(edges, range(len(log) + 1), log[order].flip(0).numpy(), cmap="cividis")
    axes.set_yticks([])
    axes.set_ylabel(f"{len(log)} channels, the flattest on top")
    axes.set_xlabel("radial frequency (cycles per latent pixel; 0 is DC)")
    figure.colorbar(mesh, ax=axes, label="ln(mean amplitude / mean DC amplitude)")
    return save(figure, directory, "map-spectrum")
