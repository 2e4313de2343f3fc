"""Images as people have them: tensors, arrays, pictures of Pillow, folders."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from diffusability.core.contracts.dataset import Dataset, Example
from diffusability.core.data.image_files import as_rgb, crop_box, cropped
from diffusability.core.errors import DataError
from diffusability.core.facade.checked import checked
from diffusability.core.scoring.scorecard_spec import ScoreOptions, scorecard_data
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import DatasetSpec

#: Side in pixels to which images of files are brought where nothing else is asked for, as by ``dfz score``.
RESOLUTION = 256

#: Smallest and largest value of pixels.
ValueRange = tuple[float, float]


class TensorImages(Dataset):
    """Images, and maybe their classes, that are in memory."""

    def __init__(self, images: Images, labels: Sequence[int] | None = None) -> None:
        self.images = images
        self.labels = labels
        self.num_classes = None if labels is None else max(labels) + 1

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        return Example(data=self.images[index], label=None if self.labels is None else self.labels[index])


@attrs.frozen(kw_only=True, eq=False)
class ImageSet:
    """A set of images and how they were read.

    Attributes:
        dataset: the images in [-1, 1].
        described: what was given and, of numbers, the range that was taken for black to white.
    """

    dataset: Dataset
    described: str


def image_set(
    images: Any,
    *,
    resolution: int | None = None,
    value_range: ValueRange | None = None,
    labels: Sequence[int] | Tensor | bool = False,
    frames: int = 17,
    num: int = RESOLUTION,
) -> ImageSet:
    """Images of any form that people have them in, as a dataset in [-1, 1].

    Args:
        images: a tensor ``b c h w`` (or ``b c t h w``), an array ``b h w c`` or ``b c h w``, pictures of Pillow, a list
            of any of these for one image each, a folder, a dataset as ``dfz score --data`` takes it, or a ``Dataset``.
        resolution: side in pixels to which pictures and files are cropped and resized; default: 256. Tensors and arrays
            keep their size.
        value_range: values of black and white in tensors and arrays; default: 0 and 255 of uint8, -1 and 1 of floats
            with negative values.
        labels: class of each image in memory; of a folder, True: the first folder below it is the class.
        frames: frames of a clip, of a folder with videos.
        num: how many images will be looked at; decides how many clips are cut from each video.

    Raises:
        DataError: the form, the shape or the range of values is unknown or ambiguous.
        SpecError: there is no such folder or dataset.
    """
    if isinstance(images, Dataset):
        return ImageSet(dataset=images, described=type(images).__name__)
    if isinstance(images, str | Path):
        options = ScoreOptions(
            data=str(images), num=num, resolution=resolution or RESOLUTION, frames=frames, labels=labels is True
        )
        spec = checked(DatasetSpec, scorecard_data(options), f"images {str(images)!r}")
        dataset: Dataset = spec.build(BuildContext(), "validation")
        return ImageSet(dataset=dataset, described=f"{str(images)!r} at {options.resolution} px")
    tensor, described = as_images(images, resolution=resolution, value_range=value_range)
    if labels is True:
        raise DataError("labels=True is for folders; give the class of each image, such as labels=[0, 3, 1]")
    classes = None if labels is False else [int(label) for label in labels]
    if classes is not None and len(classes) != len(tensor):
        raise DataError(f"{len(classes)} labels were given for {len(tensor)} images")
    return ImageSet(dataset=TensorImages(tensor, classes), described=described)


def as_images(
    images: Any, *, resolution: int | None = None, value_range: ValueRange | None = None
) -> tuple[Images, str]:
    """Images in memory as float32 in [-1, 1], and a sentence that says how they were read. As ``image_set``."""
    if isinstance(images, Image.Image):
        raise DataError("one picture was given; expected several, as a list [picture, ...]")
    if isinstance(images, Iterable) and not isinstance(images, Tensor | np.ndarray):
        given = list(images)
        if given and all(isinstance(item, Image.Image) for item in given):
            return _of_pictures(given, resolution or RESOLUTION)
        if given and all(isinstance(item, Tensor | np.ndarray) for item in given):
            return as_images(_stacked(given), resolution=resolution, value_range=value_range)
        kinds = ", ".join(sorted({type(item).__name__ for item in given})) or "nothing"
        raise DataError(f"a list of {kinds} was given; expected pictures of Pillow, tensors or arrays")
    if isinstance(images, np.ndarray):
        return _sized(*_in_range(torch.from_numpy(_channels_first(images)), value_range, "array"), resolution)
    if isinstance(images, Tensor):
        if images.ndim not in (4, 5) or images.shape[1] not in (1, 3):
            hint = "; numpy arrays may be (b, h, w, c), tensors not" if images.ndim == 4 else ""
            raise DataError(
                f"a tensor of shape {tuple(images.shape)!r} was given; expected images (b, 3, h, w) or clips"
                f" (b, 3, t, h, w), with one channel or three{hint}"
            )
        return _sized(*_in_range(images, value_range, "tensor"), resolution)
    raise DataError(
        f"images of type {type(images).__name__} were given; expected a tensor, an array, pictures or a folder"
    )


def _stacked(images: Sequence[Any]) -> Any:
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        listed = " and ".join(map(repr, sorted(shapes)[:2]))
        raise DataError(f"images of different shapes were given, {listed}; expected one shape, or pictures of Pillow")
    return np.stack(images) if isinstance(images[0], np.ndarray) else torch.stack(list(images))


def _of_pictures(pictures: Sequence[Image.Image], resolution: int) -> tuple[Images, str]:
    """As the dataset ``image-folder`` shows its files: the square at the centre, resized."""
    views = []
    for number, picture in enumerate(pictures):
        try:
            rgb = as_rgb(ImageOps.exif_transpose(picture), picture.format, dict(getattr(picture, "tag_v2", None) or {}))
        except ValueError as error:
            raise DataError(f"picture {number}: {error}") from None
        views.append(cropped(rgb, crop_box(rgb.size, 1.0, None), resolution))
    return torch.stack(views), f"{len(pictures)} pictures at {resolution} px"


def _channels_first(array: np.ndarray) -> np.ndarray:
    """An array ``b h w c`` or ``b c h w`` as the latter."""
    last, second = array.ndim == 4 and array.shape[-1] in (1, 3), array.ndim in (4, 5) and array.shape[1] in (1, 3)
    if last == second:
        what = "could be either" if last else "is neither"
        raise DataError(
            f"an array of shape {array.shape!r} {what} (b, h, w, c) or (b, c, h, w), with one channel or three"
            + ("; give a tensor, which is (b, c, h, w)" if last else "")
        )
    return np.ascontiguousarray(np.moveaxis(array, -1, 1) if last else array)


def _in_range(images: Tensor, value_range: ValueRange | None, what: str) -> tuple[Float[Tensor, "b c *t h w"], str]:
    dtype = str(images.dtype).removeprefix("torch.")
    low, high = (float(images.min()), float(images.max())) if images.numel() else (0.0, 0.0)
    if value_range is None:
        value_range = _usual_range(images, low, high, dtype, what)
    black, white = map(float, value_range)
    slack = 1e-3 * (white - black)
    if not black < white or low < black - slack or high > white + slack:
        raise DataError(
            f"the {what} holds values from {low:g} to {high:g}, outside of the range [{black:g}, {white:g}] of black to"
            " white"
        )
    described = f"{len(images)} images of {images.shape[-2]}x{images.shape[-1]} px, a {dtype} {what} taken as"
    if (black, white) == (0.0, 255.0):
        scaled = images.float().div(127.5).sub(1)  # as files are read
    elif (black, white) == (-1.0, 1.0):
        scaled = images.float()
    else:
        scaled = (images.float() - black) * (2 / (white - black)) - 1
    return scaled, f"{described} [{black:g}, {white:g}]"


def _usual_range(images: Tensor, low: float, high: float, dtype: str, what: str) -> ValueRange:
    if images.dtype == torch.uint8:
        return (0.0, 255.0)
    if images.is_floating_point() and -1.001 <= low < -1e-3 and high <= 1.001:
        return (-1.0, 1.0)
    raise DataError(
        f"the {dtype} {what} holds values from {low:g} to {high:g}: it is not clear which values are black and white;"
        " give value_range=(0, 1), (-1, 1) or (0, 255)"
    )


def _sized(images: Images, described: str, resolution: int | None) -> tuple[Images, str]:
    if resolution is not None and images.shape[-2:] != (resolution, resolution):
        height, width = images.shape[-2:]
        raise DataError(
            f"resolution is {resolution}, and the images have {height}x{width} px: tensors and arrays are not resized;"
            " leave it out, or resize them"
        )
    return images, described
