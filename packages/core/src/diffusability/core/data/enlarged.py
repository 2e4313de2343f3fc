"""Images that are smaller than the resolution at which a model sees them, and so are enlarged."""

from collections.abc import Sequence

from PIL import Image

from diffusability.core.contracts.dataset import Dataset
from diffusability.core.data.image_folder import ImageFolder

#: At most so many files are examined, by their headers.
MOST_FILES = 512


def enlarged_images(dataset: Dataset, indices: Sequence[int]) -> str:
    """A sentence that says how many of these files are smaller than the resolution; empty where none is.

    Only folders of image files are examined. Files that cannot be read are left out.
    """
    if not isinstance(dataset, ImageFolder):
        return ""
    looked_at = indices[:MOST_FILES]
    sides = [side for index in looked_at if (side := _shorter_side(dataset, index)) is not None]
    small = [side for side in sides if side < dataset.spec.resolution]
    if not small:
        return ""
    which = f"{len(small)} of {len(sides)} images"
    return (
        f"{which} are smaller than the resolution of {dataset.spec.resolution} px and are enlarged (shorter sides from"
        f" {min(small)} px); numbers of enlarged images do not compare with those of sharp ones"
    )


def _shorter_side(dataset: ImageFolder, index: int) -> int | None:
    try:
        with Image.open(dataset.root / dataset.paths[index]) as image:
            return min(image.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
