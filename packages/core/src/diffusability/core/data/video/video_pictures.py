"""What a decoder gives, as pictures the right way up."""

import hashlib
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

#: Turns that bring a picture upright, by the signs of a display matrix (a, b, c, d) that maps (x, y) to
#: (ax + cy, bx + dy), with y downwards.
_TURNS = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


def _turn(frame: Any) -> Image.Transpose | None:
    """How a frame has to be turned. Raises ValueError for a matrix other than a quarter turn or a mirror."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            matrix = np.frombuffer(bytes(data), dtype=np.int32)
            corner = matrix[[0, 1, 3, 4]]
            largest = max(1, int(np.abs(corner).max()))
            signs = tuple(int(value) for value in np.rint(corner / largest))
            if signs not in _TURNS or np.abs(corner / largest - signs).max() > 0.01:
                raise ValueError(f"it is shown under the display matrix {matrix.tolist()}; expected quarter turns")
            return _TURNS[signs]
    return None


def upright(frame: Any) -> Image.Image:
    """A frame as 8-bit RGB, turned as its display matrix says; its own pixels, whatever their shape.

    Colours are converted by libswscale: by the frame's own matrix and range, and as BT.601 of limited range where it
    names none.
    """
    image: Image.Image = frame.to_image()
    turn = _turn(frame)
    return image if turn is None else image.transpose(turn)


def pixel_aspect(stream: Any, frame: Any) -> Fraction:
    """Width over height of a pixel of the upright picture."""
    stored = stream.sample_aspect_ratio
    aspect = Fraction(stored.numerator, stored.denominator) if stored and stored > 0 else Fraction(1)
    turn = _turn(frame)
    sideways = turn is not None and turn not in (
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.ROTATE_180,
    )
    return 1 / aspect if sideways else aspect


def digest(frame: Any) -> bytes:
    """Eight bytes that stand for all pixels of a frame as it was decoded, before any conversion."""
    state = hashlib.sha256(f"{frame.width}x{frame.height} {frame.format.name}".encode())
    components = frame.format.components
    if frame.format.is_planar and all(plane.line_size > 0 for plane in frame.planes):
        for number, plane in enumerate(frame.planes):
            own = [component for component in components if component.plane == number]
            width = plane.width * sum((component.bits + 7) // 8 for component in own)
            rows = np.frombuffer(plane, dtype=np.uint8).reshape(plane.height, plane.line_size)
            state.update(rows[:, :width].tobytes())  # without the padding
    else:
        state.update(frame.to_ndarray(format="rgb24").tobytes())
    return state.digest()[:8]
