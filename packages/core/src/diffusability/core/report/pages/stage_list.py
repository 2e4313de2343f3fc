"""The list of stages: how far each has come, how long it took, and where it lies."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import attrs
import numpy as np

from diffusability.core.report.comparison import Comparison, StageFolder
from diffusability.core.report.tables.number_format import ABSENT, format_seconds
from diffusability.core.run.folder_reader import STATUSES, Stage


@attrs.frozen(kw_only=True)
class StageLine:
    """A line of the list. ``link`` is relative to the report, or None."""

    stage: str
    kind: str
    variants: str
    status: str
    known_status: bool
    seconds: str
    progress: str
    speed: str
    folder: str
    link: str | None


def relative_link(path: Path, start: Path) -> str:
    """The relative URL of a file or folder as seen from a folder, quoted."""
    return quote(Path(os.path.relpath(path.resolve(), start.resolve())).as_posix(), safe="/")


def stage_lines(comparison: Comparison, start: Path) -> Sequence[StageLine]:
    """One line for each distinct stage folder, in order of stages."""
    return [_line(folder, start) for folder in comparison.all_folders()]


def _line(folder: StageFolder, start: Path) -> StageLine:
    stage = folder.stage
    directory = stage.directory
    return StageLine(
        stage=stage.name,
        kind=stage.kind or ABSENT,
        variants=folder.label,
        status=stage.status,
        known_status=stage.status in STATUSES,
        seconds=format_seconds(stage.seconds),
        progress=_progress(stage),
        speed=_speed(stage),
        folder=directory.name if directory else ABSENT,
        link=relative_link(directory, start) if directory and directory.is_dir() else None,
    )


def _progress(stage: Stage) -> str:
    steps = [series.steps[-1] for series in stage.log.values() if len(series.steps)]
    if not steps:
        return ABSENT
    reached = f"{max(steps):,.0f}"
    return f"{reached} of {stage.num_steps:,} steps" if stage.num_steps else f"{reached} steps"


def _speed(stage: Stage) -> str:
    series = stage.log.get("samples_per_s")
    if series is None or not np.isfinite(series.values).any():
        return ABSENT
    return f"{np.nanmedian(series.values):,.3g} samples/s"
