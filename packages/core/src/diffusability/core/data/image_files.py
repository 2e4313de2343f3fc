"""Decodes image files and crops them to squares in [-1, 1]."""

import math
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.pixel_range import is_deep, refuse_signed, to_8_bits
from diffusability.core.data.specs.image_suffixes import HEIF_HINT, reads_heif, register_heif
from diffusability.core.reading import LFS_POINTER, LFS_REASON, first_bytes

Box = tuple[float, float, float, float]
#: What follows the size of the first box of a HEIC file, whatever its suffix.
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"hevm", b"hevs", b"heim", b"heis", b"mif1", b"msf1")


def read_rgb(source: Path | bytes, name: str | None = None) -> Image.Image:
    """An image file, or its content, as 8-bit RGB, turned upright by its EXIF tag.

    Greys are repeated over the channels, transparency is laid on white; 16-bit values, and floats from 0 to 1, are
    scaled to 8 bits. ``name`` is what an error calls it; default: the path.

    Raises:
        UnreadableExample: the file is missing, truncated, no image, or of values in a range that it does not declare.
    """
    path = name or ("an image" if isinstance(source, bytes) else str(source))
    register_heif()
    try:
        with _opened(source) as opened:
            file_format, tags = opened.format, dict(getattr(opened, "tag_v2", None) or {})
            image = ImageOps.exif_transpose(opened)
            image.load()
        refuse_signed(image, tags)
        return as_rgb(image, file_format, tags)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableExample(f"{path}: {_reason(source, error)}") from error


def _opened(source: Path | bytes) -> Image.Image:
    """An image whose content is not read yet. Pillow refuses twice the size at which it would warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)


def _reason(source: Path | bytes, error: Exception) -> str:
    """What is wrong with a file that Pillow does not read."""
    start = source[: len(LFS_POINTER)] if isinstance(source, bytes) else first_bytes(source, len(LFS_POINTER))
    if start == LFS_POINTER:
        return LFS_REASON
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page, not an image: what a failed download leaves"
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and not reads_heif():
        return f"it is a HEIC image; {HEIF_HINT}"
    return f"{type(error).__name__}: {error}"


def as_rgb(image: Image.Image, file_format: str | None = None, tags: "dict[int, object] | None" = None) -> Image.Image:
    """A picture as 8-bit RGB: greys are repeated, transparency is laid on white, more than 8 bits are scaled down.

    Raises:
        ValueError: values of more than 8 bits are outside of the range that the file declares, or it declares none.
    """
    return _rgb(to_8_bits(image, file_format, tags) if is_deep(image) else image)


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of an image of at most 8 bits."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    return image.convert("RGB")


def to_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """8-bit RGB to float32 in [-1, 1]."""
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))  # HWC
    return pixels.permute(2, 0, 1).float().div(127.5).sub(1)


def cropped(image: Image.Image, box: Box, resolution: int | tuple[int, int]) -> Float[Tensor, "3 h w"]:
    """The part of an image inside ``box`` (left, top, right, bottom), resized with antialiased bicubic filtering.

    ``resolution`` is the side of the square, or (height, width). No pixel that lies wholly outside the box has any
    influence.
    """
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    left, top = math.floor(box[0]), math.floor(box[1])
    part = image.crop((left, top, math.ceil(box[2]), math.ceil(box[3])))
    inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    if inner == (0, 0, width, height):
        return to_tensor(part)
    return to_tensor(part.resize((width, height), Image.Resampling.BICUBIC, box=inner))


def crop_box(size: tuple[int, int], aspect: float, generator: torch.Generator | None) -> Box:
    """The largest box of an aspect (width over height) in an image of size (width, height).

    At the centre without a generator; else anywhere along the side that is too long.
    """
    width, height = size
    box_width = min(width, max(1, int(height * aspect + 0.5)))
    box_height = min(height, max(1, int(width / aspect + 0.5)))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    if generator is not None:
        share = uniform(generator)
        left, top = int(share * (width - box_width + 1)), int(share * (height - box_height + 1))
    return (left, top, left + box_width, top + box_height)


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """One uniform number in [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def mirrored(image: Float[Tensor, "c h w"], generator: torch.Generator) -> Float[Tensor, "c h w"]:
    """The image, mirrored left to right in half of all cases."""
    return image.flip(-1) if uniform(generator) < 0.5 else image
