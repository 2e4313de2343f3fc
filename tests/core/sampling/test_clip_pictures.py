"""Clips as pictures and files, read back and compared with the frames that went in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffusability.core.contracts.evaluator import EvaluationBatch
from diffusability.core.sampling.image_grid import GAP, TITLE_HEIGHT, even_frames, save_grid, save_rows
from diffusability.core.stages.sample_grid import SampleGrid


def grey_clips(count: int, frames: int, side: int = 8) -> Tensor:
    """Frame k of clip i is ``(i + 1) k`` on a scale from black to white."""
    values = torch.arange(frames)[None] * torch.arange(1, count + 1)[:, None] / (count * frames) * 2 - 1
    return values[:, None, :, None, None].expand(count, 3, frames, side, side).contiguous()


def brightness(sheet: Image.Image, x: int, y: int) -> float:
    return float(np.asarray(sheet)[y, x].mean()) / 127.5 - 1


def test_frames_are_spread_from_first_to_last() -> None:
    """Places of 5 out of 17 frames, and of all where there are fewer."""
    clip = torch.arange(17.0).view(1, 17, 1, 1)
    assert even_frames(clip, 5).flatten().tolist() == [0, 4, 8, 12, 16]
    assert even_frames(clip[:, :3], 5).flatten().tolist() == [0, 1, 2]


def test_a_contact_sheet_has_a_row_of_frames_for_each_clip(tmp_path: Path) -> None:
    """Brightness in the middle of each picture of the sheet against the clips' frames."""
    clips = grey_clips(2, 5)
    save_grid(clips, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as opened:
        sheet = opened.convert("RGB")
    assert sheet.size == (5 * (8 + GAP) + GAP, 2 * (TITLE_HEIGHT + 8 + GAP) + GAP)
    for clip in range(2):
        for frame in range(5):
            x = GAP + frame * (8 + GAP) + 4
            y = GAP + clip * (TITLE_HEIGHT + 8 + GAP) + TITLE_HEIGHT + 4
            assert brightness(sheet, x, y) == pytest.approx(clips[clip, 0, frame, 0, 0].item(), abs=0.01)


def test_previews_show_the_first_clips(tmp_path: Path) -> None:
    """Rows of a preview of six clips and of images: four clips, and one row of images."""
    save_rows({"clips": grey_clips(6, 3), "images": torch.zeros(2, 3, 8, 8)}, tmp_path / "rows.png")
    with Image.open(tmp_path / "rows.png") as sheet:
        assert sheet.size[1] == 5 * (TITLE_HEIGHT + 8 + GAP) + GAP


def test_generated_clips_become_files(tmp_path: Path) -> None:
    """Frames of the written mp4 against those that were generated, within what H.264 loses."""
    av = pytest.importorskip("av")
    grid = SampleGrid()
    clips = grey_clips(10, 5, side=16)
    grid.update(EvaluationBatch(indices=range(10), generated=clips))
    paths = grid.draw(tmp_path)
    assert [path.name for path in paths] == ["samples.png", *(f"clip-{index:02d}.mp4" for index in range(8))]
    with av.open(str(tmp_path / "clip-03.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5
    for frame, expected in zip(frames, clips[3, 0, :, 0, 0].tolist(), strict=True):
        assert frame.mean() / 127.5 - 1 == pytest.approx(expected, abs=0.05)
