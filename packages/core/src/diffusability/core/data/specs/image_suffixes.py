"""File names that are taken for images. Free of torch."""

import importlib.util
from functools import cache

#: Suffixes that Pillow reads wherever it is installed.
IMAGE_SUFFIXES = frozenset(
    {
        *(".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm"),
        *(".ppm", ".tga", ".tif", ".tiff", ".webp"),
    }
)

#: Suffixes of images that the optional package pillow-heif reads.
HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
HEIF_HINT = "pip install 'diffusability-core[heic]' to read HEIC images"

#: Further suffixes of images. Some builds of Pillow, or a plugin of it, read some of them; the others are counted.
OTHER_IMAGE_SUFFIXES = HEIF_SUFFIXES | {
    *(".arw", ".avif", ".avifs", ".bpg", ".cr2", ".cr3", ".dds", ".dng", ".exr", ".flif", ".hdr", ".j2c", ".j2k"),
    *(".jp2", ".jpc", ".jpf", ".jpx", ".jxl", ".nef", ".orf", ".pcx", ".pfm", ".psd", ".qoi", ".raf", ".ras", ".rw2"),
    *(".sgi", ".svg"),
}


def reads_heif() -> bool:
    """Whether pillow-heif, the extra ``heic``, is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


@cache
def register_heif() -> None:
    """Teaches Pillow to read HEIC images in this process, where pillow-heif is installed."""
    if reads_heif():
        import pillow_heif

        pillow_heif.register_heif_opener()


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of images that the installed Pillow reads."""
    from PIL import Image

    register_heif()
    Image.init()
    registered = Image.registered_extensions()
    return IMAGE_SUFFIXES | {
        suffix for suffix in OTHER_IMAGE_SUFFIXES if suffix in registered and registered[suffix] in Image.OPEN
    }
