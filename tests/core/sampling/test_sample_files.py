import sys
from pathlib import Path

import pytest
import torch

from diffusability.core.errors import DiffusabilityError
from diffusability.core.sampling.sample_files import as_rgb, save_sample


def test_clips_become_films(tmp_path: Path) -> None:
    """Frames, sides (filled up to even ones) and colours of the decoded file, read back with PyAV."""
    av = pytest.importorskip("av")
    ramp = torch.linspace(-1, 1, 6).view(1, 6, 1, 1).expand(3, 6, 33, 48)
    path = save_sample(ramp, tmp_path / "00003", frames_per_s=12)
    assert path.name == "00003.mp4"
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 12
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(34, 48, 3)] * 6
    for frame, value in zip(frames, torch.linspace(0, 255, 6).tolist(), strict=True):
        assert abs(frame.mean() - value) < 4


def test_grey_samples_are_shown_in_grey() -> None:
    """One channel becomes three equal ones; of four channels, the first is shown."""
    sample = torch.rand(4, 5, 6)
    assert as_rgb(sample).shape == (3, 5, 6)
    assert all(torch.equal(channel, sample[0]) for channel in as_rgb(sample))


def test_films_without_their_library_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra to install."""
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DiffusabilityError, match=r"diffusability-core\[video\]"):
        save_sample(torch.zeros(3, 2, 8, 8), tmp_path / "clip", 8)
