"""What FFmpeg tells of damage besides raising: errors that its parts log, and an end before the declared one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import attrs

#: How much earlier than declared the frames may end, in seconds and in frames.
_TOLERANCE = Fraction(1, 10)
_TOLERATED_FRAMES = 2
#: Converts pictures; what it logs is not about the file.
_SCALER = "swscaler"


@attrs.define
class FFmpegErrors:
    """The errors that demuxers and decoders log while a file is read. They conceal some damage and raise nothing."""

    logged: list[tuple[int, str, str]]

    @property
    def first(self) -> str | None:
        """The first of them, in a line; None while there is none."""
        for _, part, message in self.logged:
            if part != _SCALER:
                return f"{part}: {' '.join(message.split())}"
        return None

    def forget(self) -> None:
        """Drops what was logged until now."""
        self.logged.clear()


@contextmanager
def ffmpeg_errors() -> Iterator[FFmpegErrors]:
    """Listens to the errors of all threads, for a decoder may have several."""
    import av.logging

    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # else a message that another file gave as well does not come
    try:
        with av.logging.Capture(local=False) as logged:
            yield FFmpegErrors(logged)
    finally:
        av.logging.set_skip_repeated(skips)
        av.logging.set_level(level)


def declared_end(stream: Any) -> Fraction | None:
    """When the stream ends by its own statement, in seconds, where a file states that apart from its frames.

    Matroska and WebM do, in the tag DURATION of a stream.
    """
    text = next((value for key, value in stream.metadata.items() if key.upper().split("-")[0] == "DURATION"), "")
    parts = re.fullmatch(r"(\d+):(\d{2}):(\d{2}(?:\.\d+)?)", text.strip("\0 "))
    if parts is None:
        return None
    return int(parts[1]) * 3600 + int(parts[2]) * 60 + Fraction(parts[3])


def early_end(declared: Fraction | None, end: Fraction, frame: Fraction) -> str | None:
    """A sentence when the frames end, at ``end`` seconds, well before the declared end; ``frame`` is one's duration."""
    if declared is None or declared - end <= _TOLERANCE + _TOLERATED_FRAMES * frame:
        return None
    return f"it ends at {float(end):.2f} s and declares {float(declared):.2f} s"
