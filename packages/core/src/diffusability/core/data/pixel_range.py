"""Grey images of more than 8 bits as 8-bit greys: by the range that a file declares, not by what it happens to hold."""

import numpy as np
from PIL import Image

#: TIFF tags: largest and smallest value of a sample, for unsigned integers and for any type.
_RANGE_TAGS = ((280, 281), (340, 341))
_PHOTOMETRIC_TAG = 262
_WHITE_IS_ZERO = 0
_SAMPLE_FORMAT_TAG = 339
_SIGNED = 2


def is_deep(image: Image.Image) -> bool:
    """Whether an image has one channel of 16-bit or 32-bit integers or of floats (Pillow's modes I, I;16 and F)."""
    return image.mode.startswith(("I", "F"))


def refuse_signed(image: Image.Image, tags: "dict[int, object]") -> None:
    """Raises ValueError for signed values of a TIFF that Pillow takes for unsigned ones of 8 bits."""
    formats = tags.get(_SAMPLE_FORMAT_TAG)
    if not is_deep(image) and _SIGNED in (formats if isinstance(formats, tuple) else (formats,)):
        raise ValueError(
            "values with a sign, from -128 to 127 where they have 8 bits; expected unsigned ones, from 0 to 255"
        )


def to_8_bits(image: Image.Image, file_format: str | None, tags: "dict[int, object] | None" = None) -> Image.Image:
    """A grey image of 8 bits.

    Declared ranges: 0 to 65535 of 16-bit integers, and of 32-bit ones that Pillow makes of 16-bit PNG and PGM files;
    the tags MinSampleValue and MaxSampleValue, or SMinSampleValue and SMaxSampleValue, of TIFF; without them 0 to 1
    of floats. A value that PNG calls transparent becomes white.

    Args:
        image: an image for which ``is_deep`` is true.
        file_format: the file's format in Pillow's words.
        tags: the tags of a TIFF.

    Raises:
        ValueError: values lie outside the declared range, or none is declared; says both ranges.
    """
    values = np.asarray(image, dtype=np.float64)
    tags = tags or {}
    if not np.isfinite(values).all():
        raise ValueError("the image holds values that are not finite (NaN or infinity)")
    value_range = f"{values.min():g} to {values.max():g}" if values.size else "none"
    low, high = _declared(image.mode, file_format, tags, value_range)
    slack = 1e-6 * (high - low)
    if values.size and (values.min() < low - slack or values.max() > high + slack):
        raise ValueError(f"values from {value_range}, and the declared range is {low:g} to {high:g}; rescale the file")
    share = (values - low) / (high - low)
    if tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        share = 1 - share
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        share = np.where(values == transparent, 1.0, share)
    return Image.fromarray((share * 255).round().clip(0, 255).astype(np.uint8))


def _declared(mode: str, file_format: str | None, tags: "dict[int, object]", value_range: str) -> tuple[float, float]:
    for lower, upper in _RANGE_TAGS:
        low, high = _number(tags.get(lower)), _number(tags.get(upper))
        if high is not None and high > (low or 0.0):
            return low or 0.0, high
    if mode.startswith("I;16") or (mode == "I" and file_format in ("PNG", "PPM")):
        return 0.0, 65535.0
    if mode == "F" and file_format in ("TIFF", "PPM"):
        return 0.0, 1.0
    kind = "floats" if mode == "F" else "integers of 32 bits, or of 16 bits with a sign,"
    whole = "" if mode == "F" else "; the type's own range, up to 4294967295, would make them black"
    raise ValueError(
        f"{kind} with values from {value_range}, and the file declares no range (TIFF tags SMinSampleValue and"
        f" SMaxSampleValue){whole}; expected 8 or 16 unsigned bits, or floats from 0 to 1"
    )


def _number(value: object) -> float | None:
    """A tag's value, or that of its first sample; None where it is absent or no number."""
    first = value[0] if isinstance(value, tuple) and value else value
    try:
        return None if first is None else float(first)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
