"""Decodes chosen frames of video files, exactly."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.video.video_damage import ffmpeg_errors
from diffusability.core.data.video.video_index import VideoIndex, opened_video, says_corrupt
from diffusability.core.data.video.video_index_cache import forget_index, video_index
from diffusability.core.data.video.video_pictures import digest, upright

__all__ = ["VideoIndex", "read_frames", "video_index"]

#: Frames after a seek that may be none of the index before the place is given up.
_PATIENCE = 32


def read_frames(path: Path, numbers: Sequence[int]) -> list[Image.Image]:
    """Frames by their numbers (ascending, also repeated), in RGB, upright.

    Seeks to where decoding may start, further back where that fails, and at last decodes from the beginning. A frame is
    returned only when it is known to be the one: by its presentation time where the packets prove these, else by a
    digest of its pixels, which the index keeps of each.

    Raises:
        UnreadableExample: the file is damaged, or a frame is missing in it. (Says what could be read.)
    """
    for _ in range(2):
        index = video_index(path)
        read = _by_time if index.digests is None else _by_digest
        for start in _places(index, numbers[0]):
            images = read(path, index, numbers, start)
            if all(number in images for number in numbers):
                return [images[number] for number in numbers]
        if index.digests is None:
            break
        forget_index(path)  # another file of the same size and time, or another decoder
    missing = next(number for number in numbers if number not in images)
    seconds = float((index.times[missing] - index.times[0]) * index.unit)
    raise UnreadableExample(
        f"{path}: frame {missing} of {len(index.times)}, at {seconds:.2f} s, cannot be decoded; what could be read of"
        f" frames {numbers[0]} to {numbers[-1]}: {len(images) or 'none'}"
    )


def _places(index: VideoIndex, first: int) -> Iterator[int | None]:
    """Frames to seek to, nearest first; None for the beginning, without a seek."""
    before = [start for start in index.starts if start <= first]
    for back in (1, 2, 4):
        if len(before) >= back and before[-back] > 0:
            yield before[-back]
    yield None


def _packets(container: Any, stream: Any, index: VideoIndex, start: int | None) -> Iterator[Any]:
    """The packets from a frame on, or some before it; none where the file cannot be searched."""
    import av

    if start is not None:
        seconds = index.times[start] * index.unit
        if index.digests is not None and stream.start_time is not None:
            seconds += stream.start_time * stream.time_base - index.times[0] * index.unit
        try:
            container.seek(int(seconds / stream.time_base), stream=stream)
        except (av.FFmpegError, OSError):
            return
    yield from container.demux(stream)


def _by_time(path: Path, index: VideoIndex, numbers: Sequence[int], start: int | None) -> dict[int, Image.Image]:
    """What is found of the frames whose times are those of packets that were shown to be right."""
    import av

    number_at = {time: number for number, time in enumerate(index.times)}
    starts, wanted = set(index.starts), set(numbers)
    images: dict[int, Image.Image] = {}
    begun = False
    with ffmpeg_errors() as errors, opened_video(path) as (container, stream):
        decoder = stream.codec_context
        decoder.options = {"err_detect": "explode"}  # rather than to paint over what is damaged
        try:
            for packet in _packets(container, stream, index, start):
                number = number_at.get(packet.pts)
                if not begun and packet.pts is not None:
                    if number not in starts:
                        continue
                    if number > numbers[0]:
                        break  # the seek landed late
                    begun = True
                if decoder.name == "h264":  # pictures that no other depends on are marked in each slice
                    decoder.skip_frame = "DEFAULT" if packet.pts is None or number in wanted else "NONREF"
                shown = packet.decode()
                if says_corrupt(packet, container) or errors.first:
                    break  # what is damaged may have been painted over
                for frame in shown:
                    number = number_at.get(frame.pts)
                    if number in wanted and not frame.is_corrupt:
                        images[number] = upright(frame)
                    if len(images) == len(wanted) or (number is not None and number > numbers[-1]):
                        return images
        except (av.FFmpegError, OSError):
            pass  # the caller reports what is missing, or reads it otherwise
    return images


def _by_digest(path: Path, index: VideoIndex, numbers: Sequence[int], start: int | None) -> dict[int, Image.Image]:
    """What is found of the frames whose pixels are those that decoding from the beginning gave."""
    import av

    assert index.digests is not None
    wanted: dict[bytes, list[int]] = {}
    for number in numbers:
        wanted.setdefault(index.digests[number], []).append(number)
    counts = Counter(index.digests)
    place_of = {pixels: number for number, pixels in enumerate(index.digests) if counts[pixels] == 1}
    images: dict[int, Image.Image] = {}
    unknown = 0
    with opened_video(path) as (container, stream):
        for packet in _packets(container, stream, index, start):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue  # what depends on what was not decoded
            for frame in frames:
                pixels = digest(frame)
                if pixels in wanted:
                    image = upright(frame)
                    images.update(dict.fromkeys(wanted.pop(pixels), image))
                unknown = 0 if pixels in counts else unknown + 1
                if not wanted or unknown > _PATIENCE or place_of.get(pixels, -1) > numbers[-1]:
                    return images
                if not images and place_of.get(pixels, -1) > numbers[0]:
                    return images  # the seek landed late
    return images
