"""Pictures inside of a page: small enough that many of them make a file that can be sent around."""

import base64
import io
from collections.abc import Sequence

import attrs
from PIL import Image

from diffusability.core.report.figures.pictures import Picture

#: Bytes for all pictures of a page, as they are in the files: base64 adds a third.
BUDGET = 1_350_000
#: Longest side in pixels and WebP quality, the first that are within a picture's share of the budget.
_STEPS = ((1400, 84), (1400, 76), (1100, 72), (800, 70), (560, 68), (400, 60))


@attrs.frozen(kw_only=True, eq=False)
class EmbeddedPicture:
    """A picture as a data URI, with the size in pixels of its file, and whether it had to be shrunk."""

    uri: str
    width: int
    height: int
    shrunk: bool


def share_of_budget(num_pictures: int) -> int:
    """The bytes that each of so many pictures may have."""
    return BUDGET // max(1, num_pictures)


def embed(picture: Picture, most_bytes: int, notes: list[str]) -> EmbeddedPicture | None:
    """The picture as WebP of at most so many bytes, or of the smallest size that a reader can still see; a figure
    without pixels as the SVG that it is. None for a file that cannot be read, which ``notes`` then names.
    """
    path = picture.pixels or picture.path
    if path is None:
        return None
    try:
        content = path.read_bytes()
        if path.suffix == ".svg":
            return EmbeddedPicture(uri=_data_uri(content, "image/svg+xml"), width=0, height=0, shrunk=False)
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            small, size = _compressed(image, most_bytes)
            return EmbeddedPicture(
                uri=_data_uri(small, "image/webp"), width=image.width, height=image.height, shrunk=size != image.size
            )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        notes.append(
            f"{path.parent.parent.name}/{path.parent.name}/{path.name} is not a readable picture"
            f" ({type(error).__name__})"
        )
        return None


def _compressed(image: Image.Image, most_bytes: int) -> tuple[bytes, Sequence[int]]:
    """WebP, and its size in pixels."""
    content, size = b"", image.size
    opaque = _on_white(image)
    for side, quality in _STEPS:
        small = opaque.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        target = io.BytesIO()
        small.save(target, format="WEBP", quality=quality, method=4)
        content, size = target.getvalue(), small.size
        if len(content) <= most_bytes:
            break
    return content, size


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image.convert("RGBA"))
    return paper.convert("RGB")


def _data_uri(content: bytes, media_type: str) -> str:
    """Content as a URI that needs no file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
