"""File names that are taken for images. Free of torch."""

from functools import cache

#: Suffixes that Pillow reads wherever it is installed.
IMAGE_SUFFIXES = frozenset(
    {
        *(".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm"),
        *(".ppm", ".tga", ".tif", ".tiff", ".webp"),
    }
)

#: Further suffixes of images. Some builds of Pillow, or a plugin of it, read some of them; the others are counted.
OTHER_IMAGE_SUFFIXES = frozenset(
    {
        *(".arw", ".avif", ".avifs", ".bpg", ".cr2", ".cr3", ".dds", ".dng", ".exr", ".flif", ".hdr", ".heic", ".heif"),
        *(".hif", ".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx", ".jxl", ".nef", ".orf", ".pcx", ".pfm", ".psd"),
        *(".qoi", ".raf", ".ras", ".rw2", ".sgi", ".svg"),
    }
)


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of images that the installed Pillow reads."""
    from PIL import Image

    Image.init()
    registered = Image.registered_extensions()
    return IMAGE_SUFFIXES | {
        suffix for suffix in OTHER_IMAGE_SUFFIXES if suffix in registered and registered[suffix] in Image.OPEN
    }
