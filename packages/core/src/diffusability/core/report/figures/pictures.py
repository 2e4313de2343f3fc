"""Pictures that stages left behind, side by side by variant."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from diffusability.core.report.comparison import Comparison
from diffusability.core.report.figures.line_styles import LineStyle, reference_style

#: What ``evaluate`` stages call the grid of real images that they draw beside their samples.
REAL_IMAGES = "real-images"
_STEP = re.compile(r"step-(\d+)[-_]?(.*)")


@attrs.frozen(kw_only=True, eq=False)
class Picture:
    """One picture, or the gap where a variant has none.

    Attributes:
        label: the variants that it is of.
        style: their line style.
        path: the file to look at in full, or None.
        pixels: the same as a PNG, where there is one.
        note: the step it was drawn at, or nothing.
    """

    label: str
    style: LineStyle
    path: Path | None
    pixels: Path | None = None
    note: str = ""


@attrs.frozen(kw_only=True, eq=False)
class PictureRow:
    """The same picture of every variant; of several seeds, of the first that has it."""

    stage: str
    title: str
    pictures: list[Picture]


def sample_rows(comparison: Comparison) -> list[PictureRow]:
    """The latest sample grids of each stage, those of finished models, beside real images, before those that show how
    training went.
    """
    rows = [_beside_real_images(comparison, row) for row in _rows(comparison, _latest_samples)]
    return sorted(rows, key=lambda row: any(picture.note for picture in row.pictures))


def _beside_real_images(comparison: Comparison, row: PictureRow) -> PictureRow:
    """The row of what finished models made with the real images first: one picture where they agree, or one for each
    variant that has others.
    """
    if row.title or any(picture.note for picture in row.pictures):
        return row
    real: dict[bytes, Picture] = {}
    for folder in comparison.folders(row.stage):
        path = folder.stage.directory / "samples" / f"{REAL_IMAGES}.png" if folder.stage.directory else None
        content = _content(path) if path is not None else b""
        if content:
            picture = Picture(label=folder.label, style=reference_style(0, ()), path=path, pixels=path)
            real.setdefault(content, picture)
    named = [
        attrs.evolve(picture, label="real images" if len(real) == 1 else f"real images ({picture.label})")
        for picture in real.values()
    ]
    return attrs.evolve(row, pictures=[*named, *row.pictures])


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


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
                    path, note = pictures.get(title, (None, ""))
                    picture = Picture(
                        label=folder.label, style=folder.style, path=path, pixels=_pixels_of(path), note=note
                    )
                    present = by_base.setdefault(folder.base, picture)
                    by_base[folder.base] = picture if present.path is None else present
            yield PictureRow(stage=stage, title=title, pictures=list(by_base.values()))


def _pixels_of(path: Path | None) -> Path | None:
    """The PNG of a figure that is an SVG; a PNG itself."""
    if path is None:
        return None
    pixels = path.with_suffix(".png")
    return pixels if pixels.is_file() else None


def _latest_samples(directory: Path) -> dict[str, tuple[Path, str]]:
    """By title, the grid with the highest step and that step; grids without a step stand for themselves."""
    latest: dict[str, tuple[int, Path]] = {}
    for path in sorted((directory / "samples").glob("*.png")):
        if path.stem == REAL_IMAGES:
            continue
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
