"""Pictures that stages left behind, side by side by variant."""

import base64
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
from PIL import Image

from diffusability.core.report.comparison import Comparison, StageFolder
from diffusability.core.report.figures.line_styles import LineStyle

#: Pictures of more bytes are shrunk before they are embedded.
MOST_EMBEDDED_BYTES = 1_500_000
#: Longest side of a shrunk picture, in pixels.
SHRUNK_SIDE = 1400
_STEP = re.compile(r"step-(\d+)[-_]?(.*)")


@attrs.frozen(kw_only=True, eq=False)
class Picture:
    """One picture, or the gap where a variant has none.

    Attributes:
        label: the variants that it is of.
        style: their line style.
        path: the file, or None.
        note: the step it was drawn at, or nothing.
    """

    label: str
    style: LineStyle
    path: Path | None
    note: str = ""


@attrs.frozen(kw_only=True, eq=False)
class PictureRow:
    """The same picture of every variant; of several seeds, of the first that has it."""

    stage: str
    title: str
    pictures: list[Picture]


@attrs.frozen(kw_only=True, eq=False)
class EmbeddedPicture:
    """A picture as a data URI, with its own size in pixels and whether it had to be shrunk."""

    uri: str
    width: int
    height: int
    shrunk: bool


def sample_rows(comparison: Comparison) -> list[PictureRow]:
    """The latest sample grids of each stage, those of finished models before those that show how training went."""
    return sorted(_rows(comparison, _latest_samples), key=lambda row: any(picture.note for picture in row.pictures))


def picture_rows(comparison: Comparison) -> list[PictureRow]:
    """Figures of stages that hold pixels, such as decoded images."""
    return list(_rows(comparison, lambda directory: _stage_figures(directory, plots=False)))


def plot_rows(comparison: Comparison) -> list[PictureRow]:
    """Figures of stages that hold lines alone: plots of one variant."""
    return list(_rows(comparison, lambda directory: _stage_figures(directory, plots=True)))


def _rows(comparison: Comparison, find: Callable[[Path], Mapping[str, tuple[Path, str]]]) -> Iterator[PictureRow]:
    for stage in comparison.stage_names:
        folders = comparison.folders(stage)
        by_folder = [find(folder.stage.directory) if folder.stage.directory else {} for folder in folders]
        for title in dict.fromkeys(title for pictures in by_folder for title in pictures):
            by_base: dict[str, Picture] = {}
            for folder, pictures in zip(folders, by_folder, strict=True):
                if title in pictures or folder.base not in by_base:
                    picture = _picture(folder, *pictures.get(title, (None, "")))
                    present = by_base.setdefault(folder.base, picture)
                    by_base[folder.base] = picture if present.path is None else present
            yield PictureRow(stage=stage, title=title, pictures=list(by_base.values()))


def _picture(folder: StageFolder, path: Path | None, note: str) -> Picture:
    return Picture(label=folder.label, style=folder.style, path=path, note=note)


def _latest_samples(directory: Path) -> dict[str, tuple[Path, str]]:
    """By title, the grid with the highest step and that step; grids without a step stand for themselves."""
    latest: dict[str, tuple[int, Path]] = {}
    for path in sorted((directory / "samples").glob("*.png")):
        match = _STEP.fullmatch(path.stem)
        step, title = (int(match[1]), match[2]) if match else (-1, "" if path.stem == "samples" else path.stem)
        if title not in latest or step >= latest[title][0]:
            latest[title] = (step, path)
    return {title: (path, f"step {step:,}" if step >= 0 else "") for title, (step, path) in latest.items()}


def _stage_figures(directory: Path, plots: bool) -> dict[str, tuple[Path, str]]:
    vector = {path.stem: path for path in sorted((directory / "figures").glob("*.svg"))}
    pixels = {path.stem: path for path in sorted((directory / "figures").glob("*.png"))}
    drawn = {stem: path for stem, path in vector.items() if not _holds_pixels(path)}
    chosen = drawn if plots else {stem: path for stem, path in {**vector, **pixels}.items() if stem not in drawn}
    return {stem: (path, "") for stem, path in chosen.items()}


def _holds_pixels(path: Path) -> bool:
    try:
        return b"<image" in path.read_bytes()
    except OSError:
        return False


def data_uri(content: bytes, media_type: str) -> str:
    """Content as a URI that needs no file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def embed(path: Path, notes: list[str]) -> EmbeddedPicture | None:
    """A PNG, shrunk if it is large, or an SVG. None for a file that cannot be read, which ``notes`` then names."""
    try:
        content = path.read_bytes()
        if path.suffix == ".svg":
            return EmbeddedPicture(uri=data_uri(content, "image/svg+xml"), width=0, height=0, shrunk=False)
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            width, height = image.size
            shrunk = len(content) > MOST_EMBEDDED_BYTES
            if shrunk:
                content = _shrink(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        notes.append(
            f"{path.parent.parent.name}/{path.parent.name}/{path.name} is not a readable picture"
            f" ({type(error).__name__})"
        )
        return None
    return EmbeddedPicture(uri=data_uri(content, "image/png"), width=width, height=height, shrunk=shrunk)


def _shrink(image: Image.Image) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((SHRUNK_SIDE, SHRUNK_SIDE), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    small.save(target, format="PNG", optimize=True)
    return target.getvalue()
