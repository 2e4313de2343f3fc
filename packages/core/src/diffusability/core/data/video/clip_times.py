"""Which frames of a video a clip takes."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.video.video_index import VideoIndex


def room_by_number(count: int, frames: int, stride: int, name: str) -> int:
    """The last frame at which a clip of ``frames`` frames, ``stride`` apart, may begin in a file of ``count`` frames.

    Raises:
        UnreadableExample: the file is too short.
    """
    span = (frames - 1) * stride + 1
    if count < span:
        raise UnreadableExample(
            f"{name}: it has {count} frames, and {frames} frames at a stride of {stride} need {span}"
        )
    return count - span


def frames_by_time(index: VideoIndex, frames: int, fps: float, share: float, name: str) -> Sequence[int]:
    """The frames on the screen at ``frames`` moments, 1 / ``fps`` seconds apart.

    The first is the one that is shown after ``share``, in [0, 1), of the time that the clip leaves free. A file with
    fewer frames per second than ``fps`` repeats some, as a player does.

    Raises:
        UnreadableExample: the file is too short.
    """
    unit = float(index.unit)
    seconds = [(time - index.times[0]) * unit for time in index.times]
    length, span = index.duration * unit, (frames - 1) / fps
    if span >= length:
        raise UnreadableExample(
            f"{name}: it lasts {length:.3f} s, and {frames} frames at {fps:g} fps need more than {span:.3f} s"
        )
    # Matroska rounds times to milliseconds: a frame counts as shown if it follows within that.
    rounding = min([unit, *((later - earlier) / 4 for earlier, later in pairwise(seconds))])

    def shown(moment: float) -> int:
        return bisect_right(seconds, moment) - 1

    begin = seconds[shown(share * (length - span))]
    return [shown(begin + number / fps + rounding) for number in range(frames)]
