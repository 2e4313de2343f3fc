"""Grids of images with titles, for people to look at."""

from collections.abc import Mapping
from pathlib import Path

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from PIL import Image, ImageDraw
from torch import Tensor

GAP = 2
TITLE_HEIGHT = 16
#: Frames of a clip that are shown.
MOST_FRAMES = 8
#: Clips that previews of training show.
MOST_CLIPS = 4


def to_pil(image: Float[Tensor, "3 h w"]) -> Image.Image:
    """An image in [-1, 1] as 8-bit RGB; values outside are clamped."""
    pixels = ((image.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def even_frames(clip: Float[Tensor, "c t h w"], most: int = MOST_FRAMES) -> Float[Tensor, "k c h w"]:
    """Frames of a clip from the first to the last, at most so many, as evenly spaced as whole numbers allow."""
    count = min(most, clip.shape[1])
    return clip[:, torch.linspace(0, clip.shape[1] - 1, count).round().long()].transpose(0, 1)


def _displayed(images: Float[Tensor, "b c h w"], side: int) -> list[Image.Image]:
    """As RGB pictures ``side`` pixels high."""
    if images.shape[1] != 3:
        images = images[:, :1].expand(-1, 3, -1, -1)
    pictures = [to_pil(image) for image in images]
    return [
        picture.resize((round(picture.width * side / picture.height), side), Image.Resampling.NEAREST)
        if picture.height != side
        else picture
        for picture in pictures
    ]


@jaxtyped(typechecker=beartype)
def save_rows(rows: Mapping[str, Float[Tensor, "b c *t h w"]], path: Path) -> None:
    """Writes one titled row of images for each entry; smaller images are enlarged to the largest's height.

    Of clips, each of the first ``MOST_CLIPS`` has a row of its own, of frames from its first to its last.
    """
    rows = _rows_of_frames(rows)
    side = max(images.shape[-2] for images in rows.values())
    pictures = {title: _displayed(images, side) for title, images in rows.items()}
    width = max(sum(picture.width + GAP for picture in row) for row in pictures.values()) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (TITLE_HEIGHT + side + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    y = GAP
    for title, row in pictures.items():
        draw.text((GAP + 1, y + 1), title, fill="black")
        x = GAP
        for picture in row:
            sheet.paste(picture, (x, y + TITLE_HEIGHT))
            x += picture.width + GAP
        y += TITLE_HEIGHT + side + GAP
    _write(sheet, path)


@jaxtyped(typechecker=beartype)
def save_grid(images: Float[Tensor, "b c *t h w"], path: Path) -> None:
    """Writes images as a sheet that is about as wide as high; clips as a contact sheet, one row of frames each."""
    if images.ndim == 5:
        save_rows({f"clip {index}": even_frames(clip) for index, clip in enumerate(images)}, path)
        return
    pictures = _displayed(images, images.shape[-2])
    columns = max(1, round(len(pictures) ** 0.5))
    rows = -(-len(pictures) // columns)
    width, height = pictures[0].size
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(picture, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    _write(sheet, path)


def _rows_of_frames(rows: Mapping[str, Float[Tensor, "_ _ ... _ _"]]) -> Mapping[str, Float[Tensor, "_ _ _ _"]]:
    frames: dict[str, Tensor] = {}
    for title, images in rows.items():
        if images.ndim == 4:
            frames[title] = images
            continue
        frames |= {f"{title}, clip {index}": even_frames(clip) for index, clip in enumerate(images[:MOST_CLIPS])}
    return frames


def _write(sheet: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
