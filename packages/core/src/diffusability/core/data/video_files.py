"""Decodes chosen frames of video files, exactly."""

from collections.abc import Container, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
from PIL import Image

from diffusability.core.dataset import UnreadableExample


@attrs.frozen(kw_only=True)
class VideoIndex:
    """The frames of a file.

    Attributes:
        times: presentation time of each frame, ascending, in units of the stream.
        size: (width, height) in pixels.
    """

    times: tuple[int, ...]
    size: tuple[int, int]


def _failure(path: Path, error: Exception) -> UnreadableExample:
    return UnreadableExample(f"{path}: {type(error).__name__}: {error}")


@lru_cache(maxsize=4096)
def video_index(path: Path) -> VideoIndex:
    """Reads the packets of a file without decoding them. (What its header says of the number of frames may be wrong.)

    Raises:
        UnreadableExample: it is missing, no video, or has no frames.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadableExample(f"{path}: there is no video in it")
            stream = container.streams.video[0]
            times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
            size = (stream.codec_context.width, stream.codec_context.height)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _failure(path, error) from error
    if not times:
        raise UnreadableExample(f"{path}: it has no frames")
    return VideoIndex(times=tuple(times), size=size)


def read_frames(path: Path, numbers: Sequence[int]) -> list[Image.Image]:
    """Frames by their numbers (ascending), in RGB: seeks to the keyframe before the first, and decodes from there.

    Of the frames that are not asked for, those that no other depends on are left out.

    Raises:
        UnreadableExample: the file is damaged, or a frame is missing in it.
    """
    import av

    times = video_index(path).times
    wanted = {times[number]: place for place, number in enumerate(numbers)}
    found: dict[int, Image.Image] = {}
    last = times[numbers[-1]]
    try:
        with av.open(str(path)) as container:
            stream: Any = container.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}  # rather than to paint over what is damaged
            container.seek(times[numbers[0]], stream=stream)
            for frame in _decoded(container.demux(stream), stream.codec_context, wanted):
                if frame.pts in wanted and not frame.is_corrupt:
                    found[wanted[frame.pts]] = frame.to_image()
                if len(found) == len(numbers) or (frame.pts is not None and frame.pts > last):
                    break
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _failure(path, error) from error
    if len(found) < len(numbers):
        missing = next(number for place, number in enumerate(numbers) if place not in found)
        raise UnreadableExample(f"{path}: frame {missing} of {len(times)} cannot be decoded")
    return [found[place] for place in range(len(numbers))]


def _decoded(packets: Iterable[Any], decoder: Any, wanted: Container[int]) -> Iterator[Any]:
    """The frames of packets, in the order in which they are shown, but for unwanted ones that no other depends on."""
    for packet in packets:
        decoder.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in wanted else "NONREF"
        yield from packet.decode()
