"""HEIC images: read with the extra ``heic``, and named where it is missing."""

import base64

import numpy as np
import pytest
from PIL import Image

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.image_files import read_rgb
from diffusability.core.data.image_folder import image_paths, splits_of
from diffusability.core.data.specs.image_folder import ImageFolderSpec
from diffusability.core.data.specs.image_suffixes import reads_heif

with_extra = pytest.mark.skipif(not reads_heif(), reason="needs the extra heic")
without_extra = pytest.mark.skipif(reads_heif(), reason="the extra heic is installed")
#: The first bytes of what a phone writes.
START = base64.b64decode("AAAAGGZ0eXBoZWljAAAAAG1pZjFoZWlj")


def picture(size=(48, 32)):
    """A horizontal ramp in red, a vertical one in green."""
    width, height = size
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 60)], axis=-1).astype(np.uint8))


@with_extra
@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".jpg"])
def test_a_heic_image_is_read_whatever_its_suffix(tmp_path, suffix):
    """Against the picture that was encoded; phones' files are often renamed to .jpg."""
    image_paths(tmp_path)  # registers the format
    path = tmp_path / f"a{suffix}"
    picture().save(path, "HEIF", quality=95)
    assert image_paths(tmp_path) == [path.name]
    read = np.asarray(read_rgb(path), dtype=np.int16)
    assert np.abs(read - np.asarray(picture(), dtype=np.int16)).mean() < 3


@with_extra
def test_a_heic_image_is_turned_upright_once(tmp_path):
    """An EXIF tag that says 'turn by 90 degrees', against Pillow's own turn of the picture."""
    image_paths(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(tmp_path / "a.heic", "HEIF", quality=95, exif=exif.tobytes())
    expected = np.asarray(picture().transpose(Image.Transpose.ROTATE_270), dtype=np.int16)
    read = np.asarray(read_rgb(tmp_path / "a.heic"), dtype=np.int16)
    assert read.shape == expected.shape
    assert np.abs(read - expected).mean() < 3


@without_extra
@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_the_extra_that_reads_heic_is_named(tmp_path, name):
    """When such a file is read, when a folder holds no others, and when it is left out."""
    (tmp_path / name).write_bytes(START + bytes(500))
    for source in (tmp_path / name, (tmp_path / name).read_bytes()):
        with pytest.raises(UnreadableExample, match=r"HEIC image; pip install 'diffusability-core\[heic\]'"):
            read_rgb(source, "a")
    spec = ImageFolderSpec(path=tmp_path, resolution=8)
    if name == "a.heic":
        with pytest.raises(ValueError, match=r"holds no images.*core\[heic\]"):
            spec.check_inputs()
    picture().save(tmp_path / "b.png")
    notes = splits_of(spec).notes(None)
    assert any("1 .heic" in note and "core[heic]" in note for note in notes) == (name == "a.heic")
