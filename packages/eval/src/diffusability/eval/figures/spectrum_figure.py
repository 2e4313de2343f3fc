"""The figure of spectra."""

from pathlib import Path

from diffusability.core.contracts.evaluator import Curve
from diffusability.eval.figures.figure_style import LATENTS, RGB, RGB_POOLED, new_axes, save


def draw_spectrum(directory: Path, latents: Curve, rgb_pooled: Curve, rgb: Curve, block_size: int) -> list[Path]:
    """``dct-spectrum``: log amplitude relative to DC against the zigzag index; a band of one standard deviation over
    channels around the latents. The high frequencies, ``u + v >= block_size``, lie on a grey ground.
    """
    figure, axes = new_axes()
    first_high = block_size * (block_size + 1) // 2  # the anti-diagonals u + v < block_size come before
    axes.axvspan(first_high - 0.5, block_size**2 - 0.5, color="#f1f1f1", linewidth=0, zorder=0)
    every = max(1, block_size**2 // 8)
    for curve, label, style in (
        (rgb, "RGB at its own size", RGB),
        (rgb_pooled, "RGB pooled to the latents' size", RGB_POOLED),
        (latents, "latents, mean ± std over channels", LATENTS),
    ):
        axes.plot(curve.x, curve.y, label=label, markersize=5, markevery=every, **style)
    if latents.y_std is not None:
        below = [y - std for y, std in zip(latents.y, latents.y_std, strict=True)]
        above = [y + std for y, std in zip(latents.y, latents.y_std, strict=True)]
        axes.fill_between(latents.x, below, above, color=LATENTS["color"], alpha=0.18, linewidth=0)
    axes.text(
        block_size**2 - 1,
        1.01,
        f"high frequencies, u + v ≥ {block_size}",
        transform=axes.get_xaxis_transform(),
        ha="right",
        va="bottom",
        fontsize="small",
    )
    axes.set_xlim(-0.5, block_size**2 - 0.5)
    axes.set_xlabel(f"zigzag index of the {block_size}x{block_size} DCT frequency (0 is DC)")
    axes.set_ylabel("ln(mean amplitude / mean DC amplitude)")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    return save(figure, directory, "dct-spectrum")
