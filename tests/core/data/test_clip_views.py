"""What a clip shows: sampled by time, upright, in square pixels."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from video_clips import decoded, write_clip

from diffusability.core.contracts.dataset import FilteredExample, UnreadableExample
from diffusability.core.data.specs.video_folder import VideoFolderSpec
from diffusability.core.data.video.clip_times import frames_by_time
from diffusability.core.data.video.video_files import read_frames, video_index
from diffusability.core.specs.build_context import BuildContext


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


def opened(folder, **fields):
    settings = {"frames": 5, "resolution": 16, "validation_share": 1e-9, "num_workers": 0, **fields}
    return VideoFolderSpec(path=folder, **settings).build(BuildContext(), "train")


def as_data(image, size):
    resized = image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 127.5 - 1


def moments(path, numbers):
    index = video_index(path)
    return [float((index.times[number] - index.times[0]) * index.unit) for number in numbers]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_clips_of_any_frame_rate_cover_the_same_time(tmp_path, name):
    """24, 25, 30000/1001 and 60 frames per second, 2 s each, at 12 fps: steps of 1/12 s, within a frame."""
    for number, rate in enumerate((24, 25, Fraction(30000, 1001), 60)):
        path = write_clip(
            tmp_path / f"{number}{name}",
            "mpeg4" if name == "a.avi" else "libx264",
            count=int(2 * rate),
            rate=rate,
            container="mpegts" if name == "a.ts" else None,
        )
        for share in (0.0, 0.37, 0.5, 0.999):
            chosen = frames_by_time(video_index(path), 9, 12.0, share, name)
            shown = moments(path, chosen)
            begin = share * (int(2 * rate) / float(rate) - 8 / 12)
            assert -1.02 / rate < shown[0] - begin < 0.001
            assert all(-1.02 / rate < time - shown[0] - step / 12 < 0.002 for step, time in enumerate(shown))
            if rate in (24, 60):  # a whole number of frames each
                assert {later - earlier for earlier, later in pairwise(chosen)} == {int(rate // 12)}
            same = frames_by_time(video_index(path), 9, float(rate), share, name)
            assert list(same) == list(range(same[0], same[0] + 9))


def test_a_varying_frame_rate_is_sampled_by_time(tmp_path):
    """One second at 10 and one at 50 frames per second, at 10 fps; and repeats where the file has fewer frames."""
    times = [*range(0, 1000, 100), *range(1000, 2000, 20)]
    path = write_clip(tmp_path / "a.mkv", count=60, times=times)
    numbers = frames_by_time(video_index(path), 20, 10.0, 0.0, "a")
    assert numbers == [*range(10), *range(10, 60, 5)]
    assert frames_by_time(video_index(path), 6, 20.0, 0.0, "a") == [0, 0, 1, 1, 2, 2]
    expected = decoded(path)
    images = read_frames(path, [0, 0, 1, 1, 2, 2])
    assert all(np.array_equal(np.asarray(images[place]), expected[place // 2]) for place in range(6))


def test_a_dataset_samples_by_time(tmp_path):
    """The middle clip at 5 fps of 25, and random ones: always five frames apart, from any start."""
    path = write_clip(tmp_path / "a.mp4", count=40)
    expected = decoded(path)
    dataset = opened(tmp_path, fps=5, flip=False, resolution=64)
    middle = dataset[0].data  # it begins at (1.6 - 0.8) / 2 s
    for place, number in enumerate(range(10, 31, 5)):
        torch.testing.assert_close(middle[:, place], as_data(Image.fromarray(expected[number]), 64))
    firsts = set()
    for seed in range(30):
        data = dataset.load(0, torch.Generator().manual_seed(seed)).data
        numbers = [
            next(n for n, pixels in enumerate(expected) if torch.equal(frame, as_data(Image.fromarray(pixels), 64)))
            for frame in data.unbind(1)
        ]
        assert numbers == list(range(numbers[0], numbers[0] + 21, 5))
        firsts.add(numbers[0])
    assert min(firsts) < 4
    assert 15 < max(firsts) < 20


def test_a_clip_by_time_that_is_too_short_is_named(tmp_path):
    """Both lengths; and fps beside a stride is refused."""
    write_clip(tmp_path / "a.mp4", count=20)
    with pytest.raises(UnreadableExample, match=r"a\.mp4: it lasts 0\.800 s, and 5 frames at 4 fps need more than 1"):
        opened(tmp_path, fps=4)[0]
    assert opened(tmp_path, fps=5.1)[0].data.shape[1] == 5
    with pytest.raises(ValidationError, match=r"stride 2 counts the frames of a file, and fps 5 samples it by time"):
        opened(tmp_path, fps=5, stride=2)
    with pytest.raises(ValidationError, match="fps"):
        opened(tmp_path, fps=0)


#: The rows (a b, c d) of an MP4 file's matrix, and what it does to rows and columns of pixels.
TURNS = {
    (1, 0, 0, 1): lambda pixels: pixels,
    (0, 1, -1, 0): lambda pixels: np.rot90(pixels, -1),  # a telephone held upright: 90 degrees clockwise
    (-1, 0, 0, -1): lambda pixels: np.rot90(pixels, 2),
    (0, -1, 1, 0): lambda pixels: np.rot90(pixels, 1),
    (-1, 0, 0, 1): lambda pixels: pixels[:, ::-1],
    (1, 0, 0, -1): lambda pixels: pixels[::-1],
    (0, 1, 1, 0): lambda pixels: pixels.swapaxes(0, 1),
    (0, -1, -1, 0): lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
}


def with_matrix(path, corner):
    """Puts a matrix into the track header (ISO/IEC 14496-12, 8.3.2): 16.16 fixed point, 2.30 in the last column."""
    content = bytearray(path.read_bytes())
    place = content.find(b"tkhd") + 4 + 40
    a, b, c, d = (value * 65536 for value in corner)
    content[place : place + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("corner", list(TURNS))
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_are_turned_as_the_file_says(tmp_path, corner, codec):
    """All eight orientations of a picture of 64x32, in either kind of index; the size is the upright one."""
    path = write_clip(tmp_path / "a.mp4", codec, count=8, size=(64, 32))
    stored = decoded(path)
    with_matrix(path, corner)
    expected = [TURNS[corner](pixels) for pixels in stored]
    for frame, pixels in zip(read_frames(path, range(2, 6)), expected[2:6], strict=True):
        assert np.array_equal(np.asarray(frame), pixels)
    assert video_index(path).size == expected[0].shape[1::-1]


def test_another_matrix_is_refused(tmp_path):
    """A turn by 45 degrees: an error that names it, instead of a slanted picture."""
    path = write_clip(tmp_path / "a.mp4", count=8)
    with_matrix(path, (0.7071, 0.7071, -0.7071, 0.7071))
    with pytest.raises(UnreadableExample, match=r"a\.mp4: .*display matrix \[46340, 46340, 0, -46340"):
        read_frames(path, [0])


def _aspect(value):
    return lambda opened, stream: setattr(stream.codec_context, "sample_aspect_ratio", Fraction(value))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_pixels_become_square(tmp_path, name, codec):
    """Pixels twice as wide as high: of 64x64 the middle 32x64 become a square, against PIL; with size and filters."""
    path = write_clip(tmp_path / name, codec, count=8, prepare=_aspect(2))
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2
    assert (video_index(path).size, video_index(path).pixel_aspect) == ((128, 64), 2)
    data = opened(tmp_path, frames=1, flip=False)[0].data[:, 0]
    stored = Image.fromarray(decoded(path)[4])
    torch.testing.assert_close(data, as_data(stored.crop((16, 0, 48, 64)), 16))
    with pytest.raises(FilteredExample, match=r"128x64 pixels, and max_aspect is 1\.5"):
        opened(tmp_path, frames=1, max_aspect=1.5)[0]


def test_pixels_of_a_turned_picture_become_square(tmp_path):
    """Wide pixels of a picture on its side are high ones upright."""
    path = write_clip(tmp_path / "a.mp4", count=8, prepare=_aspect(2))
    stored = decoded(path)
    with_matrix(path, (0, 1, -1, 0))
    assert (video_index(path).size, video_index(path).pixel_aspect) == ((32, 64), Fraction(1, 2))
    data = opened(tmp_path, frames=1, flip=False)[0].data[:, 0]
    upright = Image.fromarray(np.rot90(stored[4], -1))
    torch.testing.assert_close(data, as_data(upright.crop((0, 16, 64, 48)), 16))


def test_a_clip_whose_frames_change_size(tmp_path):
    """The same part of 64x64 and of 96x96; another shape is an error that names both."""
    parts = {
        size: write_clip(tmp_path / "parts" / f"{size[1]}.ts", count=6, size=size, container="mpegts").read_bytes()
        for size in ((64, 64), (96, 96), (96, 48))
    }
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "a.ts"
    path.write_bytes(parts[64, 64] + parts[96, 96])
    data = opened(path.parent, frames=12, flip=False)[0].data
    for place, pixels in enumerate(decoded(path)):
        torch.testing.assert_close(data[:, place], as_data(Image.fromarray(pixels), 16))
    path.write_bytes(parts[64, 64] + parts[96, 48])
    with pytest.raises(UnreadableExample, match=r"a\.ts: the shape of its frames changes from 64x64 to 96x48"):
        opened(path.parent, frames=12)[0]
