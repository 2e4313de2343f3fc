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


def to_pil(image: Float[Tensor, "3 h w"]) -> Image.Image:
    """An image in [-1, 1] as 8-bit RGB; values outside are clamped."""
    pixels = ((image.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _displayed(images: Float[Tensor, "b c *t h w"], side: int) -> list[Image.Image]:
    """As RGB pictures ``side`` pixels high; of a clip, its middle frame."""
    if images.ndim == 5:
        images = images[:, :, images.shape[2] // 2]
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
    """Writes one titled row of images for each entry; smaller images are enlarged to the largest's height."""
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
    """Writes images as a sheet that is about as wide as high."""
    pictures = _displayed(images, images.shape[-2])
    columns = max(1, round(len(pictures) ** 0.5))
    rows = -(-len(pictures) // columns)
    width, height = pictures[0].size
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(picture, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    _write(sheet, path)


def _write(sheet: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
