"""Frames of clips of any codec and container, against decoding the same file from its beginning."""

import av
import numpy as np
import pytest
from video_clips import decoded, picture, write_clip

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.video import video_index_cache
from diffusability.core.data.video.video_files import read_frames, video_index

X265 = {"x265-params": "log-level=none:pools=1"}
OPEN = {"x264-params": "open-gop=1:bframes=3:scenecut=0"}
#: What is written, and whether the packets alone prove which frame is which.
FILES = {
    "h264.mp4": ({"between": 3}, True),
    "h264-10bit.mkv": ({"between": 3, "pixels": "yuv420p10le"}, True),
    "h264-fields.mkv": ({"between": 3, "options": {"x264-params": "tff=1"}}, True),
    "h264.mov": ({"between": 2}, True),
    "h264.avi": ({"between": 3}, False),
    "h264-open.mp4": ({"options": OPEN}, False),
    "h264-open.mkv": ({"options": OPEN}, False),
    "h264-refresh.mkv": ({"options": {"x264-params": "intra-refresh=1"}}, False),
    "h264.ts": ({"between": 3, "container": "mpegts"}, False),
    "h264.flv": ({"between": 3}, False),
    "h264-bare.mpg": ({"between": 3, "container": "h264"}, False),
    "hevc-open.mp4": ({"codec": "libx265", "options": X265}, True),
    "hevc-open.mkv": ({"codec": "libx265", "options": X265}, True),
    "hevc.ts": ({"codec": "libx265", "options": X265, "container": "mpegts"}, False),
    "vp8.webm": ({"codec": "libvpx", "options": {"deadline": "realtime", "auto-alt-ref": "1"}}, True),
    "vp9.webm": (
        {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}},
        True,
    ),
    "av1.mp4": ({"codec": "libsvtav1"}, False),
    "av1.mkv": ({"codec": "libsvtav1"}, False),
    "mpeg1.mpg": ({"codec": "mpeg1video", "between": 2}, False),
    "mpeg2.mp4": ({"codec": "mpeg2video", "between": 2}, False),
    "xvid.avi": ({"codec": "mpeg4", "between": 2}, False),
    "xvid.m4v": ({"codec": "mpeg4", "between": 2}, False),
    "wmv2.wmv": ({"codec": "wmv2", "container": "asf"}, False),
    "mjpeg.avi": ({"codec": "mjpeg", "pixels": "yuvj420p"}, False),
    "prores.mov": ({"codec": "prores_ks", "pixels": "yuv422p10le"}, False),
    "ffv1.mkv": ({"codec": "ffv1", "pixels": "yuv444p", "size": (63, 45)}, False),
    "palette.mov": ({"codec": "qtrle", "pixels": "rgb24"}, False),
    "upside-down.avi": ({"codec": "rawvideo", "pixels": "bgr24"}, False),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


def remuxed(source, target, change, container=None):
    """A copy with the packets that ``change(number, packet)`` returns; None leaves one out."""
    with av.open(str(source)) as old, av.open(str(target), "w", format=container) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in old.demux(stream) if packet.size):
            kept = change(number, packet)
            if kept is not None:
                kept.stream = copy
                new.mux(kept)
    return target


def assert_windows_are_exact(path, expected, starts=None):
    """Windows of eight frames, and one with a stride, against all frames in a row."""
    assert len(video_index(path).times) == len(expected)
    last = len(expected) - 8
    windows = [range(start, start + 8) for start in starts or (*range(0, last, 5), last)]
    for window in (*windows, range(3, last, 7)):
        for number, frame in zip(window, read_frames(path, window), strict=True):
            assert np.array_equal(np.asarray(frame), expected[number]), (path.name, window, number)


@pytest.mark.parametrize("name", list(FILES))
def test_windows_are_exact_in_any_codec_and_container(tmp_path, name):
    """Bit for bit as in sequential decoding; and the cheap index only where the packets prove it."""
    settings, proven = FILES[name]
    path = write_clip(tmp_path / name, **settings)
    expected = decoded(path)
    assert len(expected) == 60
    assert (video_index(path).digests is None) == proven
    assert_windows_are_exact(path, expected)


def _without_showing(packet):
    """A VP8 packet whose frame is decoded, but not shown (RFC 6386, 9.1)."""
    content = bytearray(bytes(packet))
    content[0] &= ~0x10
    hidden = av.Packet(bytes(content))
    for name in ("pts", "dts", "time_base", "is_keyframe"):
        setattr(hidden, name, getattr(packet, name))
    return hidden


def test_frames_that_are_not_shown_do_not_count(tmp_path):
    """Hidden VP8 frames in packets of their own, and frames before and after the part that an edit list shows."""
    path = write_clip(tmp_path / "a.webm", "libvpx", options={"deadline": "realtime", "cpu-used": "8"})
    hidden = remuxed(path, tmp_path / "b.webm", lambda n, p: _without_showing(p) if n in (20, 33, 34) else p)
    expected = decoded(hidden)
    assert len(expected) == 57
    assert_windows_are_exact(hidden, expected)

    path = write_clip(tmp_path / "a.mp4", between=3)
    content = bytearray(path.read_bytes())
    place = content.find(b"elst") + 12  # its one entry: milliseconds shown, units that are skipped (512 a frame)
    content[place : place + 4] = (1600).to_bytes(4, "big")
    skipped = int.from_bytes(content[place + 4 : place + 8], "big") + 17 * 512
    content[place + 4 : place + 8] = skipped.to_bytes(4, "big")
    path.write_bytes(content)
    expected = decoded(path)
    assert len(expected) == 40
    assert_windows_are_exact(path, expected)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "late.mp4", "late.ts"])
def test_streams_that_do_not_begin_at_zero(tmp_path, name):
    """Presentation times from -0.4 s on, or from 4 s on."""
    begin = 4000 if "late" in name else -400
    path = write_clip(tmp_path / name, between=2, times=[40 * number + begin for number in range(60)])
    assert_windows_are_exact(path, decoded(path))


@pytest.mark.parametrize(
    ("codec", "kept_from"), [("libx264", 7), ("mpeg2video", 7), ("libx265", 14)], ids=["h264", "mpeg2", "hevc"]
)
def test_a_recording_that_begins_between_keyframes(tmp_path, codec, kept_from):
    """A transport stream without its first packets: it has the frames that can be decoded."""
    options = X265 if codec == "libx265" else None
    path = write_clip(tmp_path / "a.ts", codec, between=2, container="mpegts", options=options)
    cut = remuxed(path, tmp_path / "b.ts", lambda n, p: p if n >= kept_from else None, "mpegts")
    expected = decoded(cut)
    assert 30 < len(expected) < 60
    assert_windows_are_exact(cut, expected)


def test_frames_that_change_size(tmp_path):
    """Two transport streams in a row, of 64x64 and 96x96 pixels."""
    parts = [
        write_clip(tmp_path / f"{side}.ts", count=20, size=(side, side), container="mpegts").read_bytes()
        for side in (64, 96)
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(parts))
    expected = decoded(path)
    assert {frame.shape for frame in expected} == {(64, 64, 3), (96, 96, 3)}
    assert_windows_are_exact(path, expected)


def _write_two(path, sizes, cover=None):
    """A file with a stream of 20 frames for each size."""
    with av.open(str(path), "w") as opened:
        streams = []
        for number, (codec, side) in enumerate(sizes):
            stream = opened.add_stream(codec, rate=25)
            stream.width = stream.height = side
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            if number == cover:
                stream.disposition = av.stream.Disposition.attached_pic.value
            streams.append(stream)
        for frame in range(20):
            for number, stream in enumerate(streams):
                if number != cover or frame == 0:
                    side = stream.width
                    opened.mux(stream.encode(av.VideoFrame.from_ndarray(picture(frame, (side, side)), format="rgb24")))
        for stream in streams:
            opened.mux(stream.encode())
    return path


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_other_streams_of_a_file(tmp_path, codec):
    """A second video, and a cover picture before the video: the first stream that moves, in either kind of index."""
    path = _write_two(tmp_path / "two.mp4", [(codec, 64), (codec, 96)])
    assert_windows_are_exact(path, decoded(path, 0))
    path = _write_two(tmp_path / "cover.mp4", [("mjpeg", 48), (codec, 64)], cover=0)
    assert video_index(path).size == (64, 64)
    assert len(video_index(path).times) == 20


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
def test_the_index_is_kept(tmp_path, monkeypatch, name, codec):
    """What another process of the same user finds: the index, without reading the packets or decoding."""
    path = write_clip(tmp_path / name, codec, between=2, count=30)
    known = video_index(path)
    video_index_cache._index.cache_clear()
    for builder in ("index_of_packets", "index_of_frames"):
        monkeypatch.setattr(video_index_cache, builder, None)
    assert video_index(path) == known


def test_an_index_of_other_frames_is_not_believed(tmp_path):
    """As of a file that was replaced by one of the same size and time: seen by the pixels, and made again."""
    path = write_clip(tmp_path / "a.avi", "mpeg4", between=2, count=30)
    other = write_clip(tmp_path / "b.avi", "mpeg4", between=2, count=40, gap=5)
    video_index_cache._store(video_index_cache._cache_path(path), video_index(other))
    expected = decoded(path)
    for number, frame in enumerate(read_frames(path, range(8, 16)), start=8):
        assert np.array_equal(np.asarray(frame), expected[number])
    assert_windows_are_exact(path, expected)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mp4", "libx265"), ("a.mpg", "mpeg2video")])
def test_a_file_that_is_cut_short_says_what_could_be_read(tmp_path, name, codec):
    """60 % of the bytes, with the index at the front: the number of whole frames, against decoding them one by one."""

    path = tmp_path / name
    with av.open(str(path), "w", options={"movflags": "+faststart"} if name == "a.mp4" else {}) as opened:
        stream = opened.add_stream(codec, rate=25, options=X265 if codec == "libx265" else {})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(60):
            opened.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        opened.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    whole = 0
    with av.open(str(path)) as opened:
        try:
            for packet in opened.demux(video=0):
                if packet.is_corrupt:
                    break
                whole += sum(not frame.is_corrupt for frame in packet.decode())
        except av.FFmpegError:
            pass
    with pytest.raises(UnreadableExample, match=rf"{name}: frame {whole} cannot .* are the {whole} frames before it"):
        read_frames(path, range(2))


@pytest.mark.parametrize("matrix", [1, 5, 9], ids=["bt709", "bt601", "bt2020"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_colours_are_those_of_ffmpeg(tmp_path, matrix, full):
    """Tagged matrix and range, against libavfilter's conversion of the same frame."""

    def tag(opened, stream):
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1

    path = write_clip(tmp_path / "a.mkv", count=3, prepare=tag)
    with av.open(str(path)) as opened:
        frame = next(opened.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (matrix, 2 if full else 1)
    graph = av.filter.Graph()
    source = graph.add(
        "buffer",
        f"width=64:height=64:pix_fmt={frame.format.name}:time_base=1/1000:colorspace={matrix}:range={2 if full else 1}",
    )
    convert, sink = graph.add("format", "rgb24"), graph.add("buffersink")
    source.link_to(convert)
    convert.link_to(sink)
    graph.configure()
    graph.push(frame)
    assert np.array_equal(np.asarray(read_frames(path, [0])[0]), graph.pull().to_ndarray(format="rgb24"))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_fragmented_mp4(tmp_path, codec):
    """A fragment for each keyframe, with and without an index at the end, against decoding in a row."""
    whole = write_clip(tmp_path / "whole.mp4", codec=codec, count=36, between=2)
    for number, flags in enumerate(
        ("frag_keyframe+empty_moov", "frag_keyframe+empty_moov+default_base_moof+global_sidx")
    ):
        path = tmp_path / f"{number}.mp4"
        with av.open(str(whole)) as old, av.open(str(path), "w", container_options={"movflags": flags}) as new:
            copy = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(old.streams.video[0]):
                if packet.size:
                    packet.stream = copy
                    new.mux(packet)
        assert path.read_bytes().count(b"moof") >= 3
        frames = decoded(whole)
        for first in (0, 11, 23, 28):
            read = read_frames(path, range(first, first + 8))
            assert all(np.array_equal(np.asarray(image), frames[first + place]) for place, image in enumerate(read))


def test_damage_that_the_decoder_only_logs_is_found(tmp_path):
    """A byte of FFV1, whose slices have checksums: FFmpeg logs the mismatch and gives a frame all the same."""
    path = write_clip(tmp_path / "a.mkv", codec="ffv1", count=12, pixels="yuv444p")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert len(decoded(path)) == 12
    for _ in range(2):  # also the second time: the same message is not left out
        with pytest.raises(
            UnreadableExample, match=r"slice CRC mismatch .*; what can be read are the \d frames before"
        ):
            read_frames(path, range(8))
        video_index_cache.forget_index(path)


@pytest.mark.parametrize("name", ["h264.mkv", "vp8.webm", "mpeg4.mkv"])
def test_a_matroska_file_that_ends_before_it_says(tmp_path, name):
    """Cut at the end of a packet, so that nothing is damaged: the stream's DURATION tells."""
    codec = {"h264": "libx264", "vp8": "libvpx", "mpeg4": "mpeg4"}[name.partition(".")[0]]
    path = write_clip(tmp_path / name, codec=codec, count=36)
    with av.open(str(path)) as opened:
        place = [packet.pos for packet in opened.demux(video=0) if packet.size][24]
    path.write_bytes(path.read_bytes()[: place - 8])  # a packet's head has at most eight bytes
    with pytest.raises(UnreadableExample, match=r"declares 1\.44 s|File ended prematurely"):
        video_index(path)
