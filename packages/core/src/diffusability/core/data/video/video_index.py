"""Which frames a video file has, when they are shown, and where decoding can start."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.video.video_damage import FFmpegErrors, declared_end, early_end, ffmpeg_errors
from diffusability.core.data.video.video_packets import packet_reader
from diffusability.core.data.video.video_pictures import digest, pixel_aspect, upright
from diffusability.core.reading import lfs_problem

#: Containers in which each packet carries its presentation time.
_TIMED_CONTAINERS = ("mov", "matroska")
#: Frames that are decoded to confirm what the packets say.
_PROBE = 4


@attrs.frozen(kw_only=True)
class VideoIndex:
    """The frames of a file, as a decoder gives them from its beginning.

    Attributes:
        times: presentation time of each frame, ascending, in units of ``unit``.
        unit: seconds.
        duration: from the first frame to the end of the last, in units.
        size: (width, height) of the first frame, upright, in square pixels.
        pixel_aspect: width over height of a pixel of the upright frame.
        starts: numbers of frames at which decoding may start, ascending.
        digests: of the pixels of each frame; None where the packets prove which frame is which.
        problem: what is wrong with the file from some place on; empty for a whole one.
    """

    times: tuple[int, ...]
    unit: Fraction
    duration: int
    size: tuple[int, int]
    pixel_aspect: Fraction
    starts: tuple[int, ...]
    digests: tuple[bytes, ...] | None = None
    problem: str = ""


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream that is not a cover picture.

    Raises:
        UnreadableExample: the file is missing or no video, or what is done with it fails.
    """
    import av

    try:
        with av.open(str(path)) as container:
            streams = container.streams.video
            moving = [stream for stream in streams if not stream.disposition & stream.disposition.attached_pic]
            if not moving:
                what = "a cover picture, but no video" if streams else "no video"
                raise UnreadableExample(f"{path}: there is {what} in it")
            yield container, moving[0]
    except (av.FFmpegError, OSError, ValueError) as error:
        hint = " (it is damaged, cut short, or no video)" if isinstance(error, av.InvalidDataError) else ""
        reason = lfs_problem(path) or f"{type(error).__name__}: {error}{hint}"
        raise UnreadableExample(f"{path}: {reason}") from error


def _shape(stream: Any, frame: Any) -> tuple[tuple[int, int], Fraction]:
    """Size in square pixels, and the aspect of a pixel. The height is kept."""
    aspect = pixel_aspect(stream, frame)
    width, height = upright(frame).size
    return (max(1, round(width * aspect)), height), aspect


def _duration(times: tuple[int, ...], last: int | None, rate: Any, unit: Fraction) -> int:
    """From the first frame to the end of the last: as long as its packet says, or as the frames before it."""
    gaps = [later - earlier for earlier, later in pairwise(times)]
    usual = int(median(gaps)) if gaps else round(1 / rate / unit) if rate else 1
    return times[-1] - times[0] + max(1, last or usual)


def _proven(container: Any, stream: Any) -> dict[int, bool] | None:
    """Times of the frames, and which may be started at; None where the packets do not prove them."""
    reader = packet_reader(stream.codec_context.name, stream.codec_context.extradata)
    if reader is None or not container.format.name.startswith(_TIMED_CONTAINERS):
        return None
    starts_by_time: dict[int, bool] = {}
    for packet in container.demux(stream):
        if packet.size == 0:  # the end
            continue
        content = reader(memoryview(packet))
        if packet.pts is None or packet.is_discard or packet.is_corrupt or packet.pts in starts_by_time:
            return None
        if content is None or content.shown != 1 or packet.is_keyframe != content.starts:
            return None
        starts_by_time[packet.pts] = content.starts
        if not starts_by_time[min(starts_by_time)]:  # the first frame on the screen needs one that is not there
            return None
    return starts_by_time or None


def index_of_packets(path: Path) -> VideoIndex | None:
    """The index without decoding, where the packets prove it and the first frames confirm it; else None.

    That takes presentation times and one shown picture in each packet (so none hidden, cut off by an edit list, or
    split into fields), and keyframes at which a decoder can start by the codec's own marks.
    """
    with ffmpeg_errors() as errors, opened_video(path) as (container, stream):
        starts_by_time = _proven(container, stream)
        if starts_by_time is None or errors.first:
            return None
        times = tuple(sorted(starts_by_time))
        unit = Fraction(stream.time_base)
        rate = stream.average_rate
        duration = _duration(times, None, rate, unit)
        if _ends_early(stream, times, duration, unit):
            return None  # decoding says up to where
    with opened_video(path) as (container, stream):
        first = []
        for frame in container.decode(stream):
            first.append(frame)
            if len(first) == _PROBE:
                break
        if [frame.pts for frame in first] != list(times[:_PROBE]) or any(frame.is_corrupt for frame in first):
            return None
        size, aspect = _shape(stream, first[0])
    return VideoIndex(
        times=times,
        unit=unit,
        duration=duration,
        size=size,
        pixel_aspect=aspect,
        starts=tuple(number for number, time in enumerate(times) if starts_by_time[time]),
    )


def _ends_early(stream: Any, times: tuple[int, ...], duration: int, unit: Fraction) -> str | None:
    """A sentence when the stream declares a later end than its frames have."""
    return early_end(declared_end(stream), (times[0] + duration) * unit, duration * unit / len(times))


def says_corrupt(packet: Any, container: Any) -> bool:
    """Whether a packet is marked as damaged.

    Not in a transport stream, where the mark stands for packet numbers that jump, as they do where two files were
    joined; there the decoder tells.
    """
    return bool(packet.is_corrupt) and container.format.name != "mpegts"


def _decoded(container: Any, stream: Any, frames: list[Any], errors: FFmpegErrors) -> Iterator[Any]:
    """Frames in the order in which they are shown. Packets before the first one that can be decoded do not count.

    Raises:
        ValueError: a packet is marked as corrupt, or the decoder logs an error and goes on.
    """
    import av

    for packet in container.demux(stream):
        if not frames:
            errors.forget()
        elif says_corrupt(packet, container):
            raise ValueError("a packet is marked as corrupt")
        try:
            shown = packet.decode()
        except av.FFmpegError:
            if frames:
                raise
            continue
        if frames and errors.first:
            raise ValueError(errors.first)
        yield from shown


def index_of_frames(path: Path) -> VideoIndex:
    """The index by decoding the whole file once; what is damaged ends it with a ``problem``.

    Raises:
        UnreadableExample: no frame can be decoded.
    """
    import av

    rows: list[tuple[int | None, bytes, bool]] = []
    problem = ""
    with ffmpeg_errors() as errors, opened_video(path) as (container, stream):
        declared = declared_end(stream)
        stream.codec_context.options = {"err_detect": "explode"}  # rather than to paint over what is damaged
        unit, rate = Fraction(stream.time_base), stream.average_rate or stream.guessed_rate
        try:
            for frame in _decoded(container, stream, rows, errors):
                if frame.is_corrupt:
                    if not rows:
                        continue
                    problem = "it is marked as corrupt"
                    break
                if not rows:
                    size, aspect = _shape(stream, frame)
                rows.append((frame.pts, digest(frame), frame.key_frame))
                last = frame.duration
        except (av.FFmpegError, OSError, ValueError) as error:
            if not rows:
                raise
            problem = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
    if not rows:
        raise UnreadableExample(f"{path}: it has no frames")
    given = [time for time, _, _ in rows if time is not None]
    if len(given) < len(rows) or any(later <= earlier for earlier, later in pairwise(given)):
        # times of decoding, or none: AVI has no others, and its frames are evenly spaced
        if not rate:
            raise UnreadableExample(f"{path}: neither its frames have times, nor the file a frame rate")
        unit, given, last = 1 / Fraction(rate), list(range(len(rows))), 1
    times = tuple(given)
    duration = _duration(times, last, rate, unit)
    if not problem:
        problem = early_end(declared, (times[0] + duration) * unit, duration * unit / len(times)) or ""
    if problem:
        seconds = float((times[-1] - times[0]) * unit)
        problem = (
            f"frame {len(times)} cannot be decoded ({problem}); what can be read are the {len(times)} frames before it,"
            f" up to {seconds:.2f} s"
        )
    return VideoIndex(
        times=times,
        unit=unit,
        duration=duration,
        size=size,
        pixel_aspect=aspect,
        starts=tuple(number for number, (_, _, key) in enumerate(rows) if key),
        digests=tuple(pixels for _, pixels, _ in rows),
        problem=problem,
    )
