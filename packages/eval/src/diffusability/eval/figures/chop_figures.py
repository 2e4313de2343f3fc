"""The figures of chop-off: curves and pictures."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from diffusability.core.contracts.evaluator import Curve
from diffusability.eval.figures.figure_style import LATENTS, RGB, save, style
from diffusability.eval.spectra.chopped_pictures import ChoppedPictures


def draw_chop_curves(directory: Path, latents: Curve, rgb: Curve, max_psnr: float) -> list[Path]:
    """``chop-off``: PSNR in dB against the share of coefficients kept, which falls to the right, on a log scale.

    The larger panel has the range of the latents, in which RGB may leave it; the smaller one has the whole range.
    """
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    own, whole = figure.subplots(1, 2, width_ratios=(5.3, 2))
    for axes in (own, whole):
        style(axes)
        axes.plot(rgb.x, rgb.y, label="RGB chopped", markersize=6, **RGB)
        axes.plot(latents.x, latents.y, label="latents chopped, then decoded", markersize=6, **LATENTS)
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
        axes.invert_xaxis()
    own.set_xticks(list(latents.x), [_percent(share) for share in latents.x], fontsize="small")
    whole.set_xticks([max(latents.x), min(latents.x)], [_percent(max(latents.x)), _percent(min(latents.x))])
    low, high = min(latents.y), max(latents.y)
    margin = 0.05 * (high - low) or 1.0
    own.set_ylim(low - margin, high + margin)
    own.set_title("range of the latents", loc="left", fontsize="medium")
    whole.set_title("whole range", loc="left", fontsize="medium")
    own.set_xlabel("share of DCT coefficients kept (log scale)")
    own.set_ylabel(f"PSNR (dB, capped at {max_psnr:g})")
    handles, labels = own.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize="small")
    return save(figure, directory, "chop-off")


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def draw_chopped_pictures(directory: Path, pictures: Sequence[ChoppedPictures], shares: Sequence[float]) -> list[Path]:
    """``chop-off-pictures``: a pair of rows for each image, one column for each share of coefficients kept."""
    rows = [(name, row) for picture in pictures for name, row in (("RGB", picture.rgb), ("latents", picture.decoded))]
    height, width = rows[0][1].shape[-2:]
    side = 1.25
    figure = Figure(figsize=(side * len(shares) + 0.4, side * height / width * len(rows) + 0.5), layout="constrained")
    grid = figure.subplots(len(rows), len(shares), squeeze=False)
    for row, (name, images) in enumerate(rows):
        grid[row, 0].set_ylabel(name)
        for column, (image, share) in enumerate(zip(images, shares, strict=True)):
            axes = grid[row, column]
            pixels = ((image + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()
            axes.imshow(pixels if pixels.shape[2] == 3 else pixels[:, :, 0], cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(_percent(share), fontsize="medium")
    figure.supxlabel("share of DCT coefficients kept", fontsize="medium")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)  # type: ignore[union-attr,call-arg]
    return save(figure, directory, "chop-off-pictures")
