"""Writes small clips in which each frame tells its number, and reads all frames of a file in a row."""

from fractions import Fraction

import av
import numpy as np
import pytest


def picture(number, size=(64, 64)):
    """Eight bits of the number in black and white, a block that moves, and noise that stays for seven frames."""
    width, height = size
    pixels = np.full((height, width, 3), 40, dtype=np.uint8)
    for bit in range(8):
        pixels[: height // 2, bit * width // 8 : (bit + 1) * width // 8] = 255 * (number >> bit & 1)
    left = number * 3 % (width - 8)
    pixels[height // 2 : height // 2 + 8, left : left + 8] = (200, 80, number * 4 % 256)
    pixels[height - height // 4 :] = np.random.default_rng(number // 7).integers(0, 255, (height // 4, width, 3))
    return pixels


def write_clip(path, codec="libx264", count=60, *, size=(64, 64), pixels="yuv420p", rate=25, gap=12, between=None,
               options=None, container=None, times=None, prepare=None):  # fmt: skip
    """A clip with a keyframe every ``gap`` frames and up to ``between`` B-frames; ``times`` in milliseconds.

    ``prepare`` is called with the container and the stream before the first frame.
    """
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV comes without {codec}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *size, pixels, gap
        if between is not None:
            stream.codec_context.max_b_frames = between
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if prepare is not None:
            prepare(opened, stream)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode())
    return path


def decoded(path, stream=0):
    """All frames of a file in RGB, one after the other from the beginning."""
    with av.open(str(path)) as opened:
        return [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=stream)]
