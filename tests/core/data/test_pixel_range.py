import io

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.image_files import read_rgb


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    try:
        image.save(buffer, file_format, **options)
    except OSError as error:  # older versions of Pillow read more than they write
        pytest.skip(str(error))
    return buffer.getvalue()


RAMP = np.linspace(0, 1, 64).reshape(8, 8)
DECLARED = {340: 0.0, 341: 255.0}  # TIFF's SMinSampleValue and SMaxSampleValue


@pytest.mark.parametrize(
    ("values", "file_format", "tags"),
    [
        (RAMP.astype(np.float32), "TIFF", {}),
        (RAMP.astype(np.float32), "PPM", {}),  # a PFM file
        ((RAMP * 255).astype(np.float32), "TIFF", DECLARED),
        ((RAMP * 255).round().astype(np.int32), "TIFF", DECLARED),
        ((RAMP * 65535).round().astype(np.uint16), "TIFF", {}),
        ((RAMP * 65535).round().astype(np.uint16), "PNG", {}),
        ((RAMP * 65535).round().astype(np.uint16), "PPM", {}),
        ((RAMP * 65535).round().astype(np.uint16), "JPEG2000", {}),
        ((RAMP * 4095).round().astype(np.uint16), "TIFF", {281: 4095}),
        ((65535 - RAMP * 65535).round().astype(np.uint16), "TIFF", {262: 0}),  # white is zero
    ],
)
def test_deep_greys_are_scaled_by_their_declared_range(values, file_format, tags):
    """A ramp from 0 to the range's end, against the ramp in 8 bits."""
    options = {}
    if tags:
        info = TiffImagePlugin.ImageFileDirectory_v2()
        for tag, value in tags.items():
            info[tag] = value
            info.tagtype[tag] = 12 if isinstance(value, float) else 3
        options["tiffinfo"] = info
    result = np.asarray(read_rgb(encoded(Image.fromarray(values), file_format, **options)))
    np.testing.assert_allclose(result, (RAMP * 255).round()[..., None].repeat(3, -1), atol=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((RAMP * 255).astype(np.float32), "values from 0 to 255, and the declared range is 0 to 1"),
        ((RAMP * 2 - 1).astype(np.float32), "values from -1 to 1, and the declared range is 0 to 1"),
        ((RAMP * np.nan).astype(np.float32), "not finite"),
        ((RAMP * 255).astype(np.int32), r"values from 0 to 255.* declares no range.* up to 4294967295"),
    ],
)
def test_values_outside_any_declared_range_are_refused_with_both_ranges(values, message):
    """Floats beyond 0 to 1, and integers of 32 bits."""
    with pytest.raises(UnreadableExample, match=message):
        read_rgb(encoded(Image.fromarray(values), "TIFF"), "deep.tif")


def test_a_large_panorama_is_read_without_a_warning_and_a_bomb_is_not(tmp_path):
    """96 million pixels, of which Pillow warns, and 200 million, which it refuses; warnings are errors here."""
    assert read_rgb(encoded(Image.new("1", (12000, 8000), 1), "PNG")).getpixel((7, 7)) == (255, 255, 255)
    with pytest.raises(UnreadableExample, match="exceeds limit"):
        read_rgb(encoded(Image.new("1", (20000, 10000)), "PNG"))


def test_a_web_page_is_called_one(tmp_path):
    """What a failed download leaves under the name of an image."""
    (tmp_path / "a.jpg").write_text("\n<!DOCTYPE html><html><body>404</body></html>")
    with pytest.raises(UnreadableExample, match="a web page"):
        read_rgb(tmp_path / "a.jpg")
