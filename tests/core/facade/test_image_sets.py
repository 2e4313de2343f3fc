"""Images in every form that people have them in, against the same pixels read from files by the dataset of folders."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffusability.core import DataError, Dataset, SpecError, image_set
from diffusability.core.facade.image_sets import as_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six pictures of 24x24 px, in the order of their names."""
    path = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path / f"{number}.png")
    return path


def pixels(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])


def loaded(made: "Dataset"):
    return torch.stack([made[index].data for index in range(len(made))])


@pytest.mark.parametrize(
    "form",
    [
        lambda array: array,
        lambda array: np.moveaxis(array, -1, 1),
        list,
        lambda array: torch.from_numpy(array).permute(0, 3, 1, 2),
        lambda array: list(torch.from_numpy(array).permute(0, 3, 1, 2)),
        lambda array: torch.from_numpy(array).permute(0, 3, 1, 2).float().div(127.5).sub(1),
    ],
    ids=["array b h w c", "array b c h w", "list of arrays", "tensor", "list of tensors", "floats"],
)
def test_forms_in_memory_are_the_pixels_of_the_files(folder, form):
    """To the bit what the folder gives at its own resolution. A list of arrays h w c is stacked first."""
    expected = loaded(image_set(folder, resolution=24).dataset)
    assert torch.equal(loaded(image_set(form(pixels(folder))).dataset), expected)


def test_pictures_are_cropped_and_resized_as_files_are(folder, tmp_path):
    """A wide picture of Pillow, one with transparency and one that lies on its side, against their files."""
    wide = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    clear = wide.copy()
    clear.putalpha(100)
    turned = wide.copy()
    exif = turned.getexif()
    exif[274] = 6
    wide.save(tmp_path / "0.png")
    clear.save(tmp_path / "1.png")
    turned.save(tmp_path / "2.png", exif=exif)
    pictures = [Image.open(path) for path in sorted(tmp_path.iterdir())]
    made = image_set(pictures, resolution=16)
    assert torch.equal(loaded(made.dataset), loaded(image_set(tmp_path, resolution=16).dataset))
    assert made.described == "3 pictures at 16 px"


@pytest.mark.parametrize(
    ("images", "options", "described"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), {}, "a uint8 tensor taken as [0, 255]"),
        (torch.linspace(-1, 1, 384).view(2, 3, 8, 8), {}, "a float32 tensor taken as [-1, 1]"),
        (torch.linspace(0, 1, 384).view(2, 3, 8, 8), {"value_range": (0, 1)}, "a float32 tensor taken as [0, 1]"),
        (np.zeros((2, 8, 8, 3), np.uint8), {}, "2 images of 8x8 px, a uint8 array taken as [0, 255]"),
        (torch.full((2, 3, 8, 8), 255.0), {"value_range": (0, 255)}, "taken as [0, 255]"),
    ],
)
def test_the_range_that_was_taken_is_said(images, options, described):
    """Bytes, floats with negative values, and what the caller says."""
    assert described in image_set(images, **options).described


@pytest.mark.parametrize("value_range", [(0, 1), (0, 255), (-1, 1), (-0.5, 0.5)])
def test_black_and_white_become_minus_one_and_one(value_range):
    """The affine map at its two ends and in the middle."""
    black, white = value_range
    images = torch.tensor([black, (black + white) / 2, white], dtype=torch.float64).repeat(2, 3, 4, 1)
    scaled, _ = as_images(images, value_range=value_range)
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled[0, 0, 0], torch.tensor([-1.0, 0.0, 1.0]))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (torch.rand(2, 3, 8, 8), {}, r"not clear which values are black and white; give value_range=\(0, 1\)"),
        (torch.rand(2, 3, 8, 8) * 255, {}, "not clear which"),
        (torch.zeros(2, 3, 8, 8), {}, "not clear which"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), {}, "not clear which"),
        (torch.rand(2, 3, 8, 8) * 3, {"value_range": (0, 1)}, r"outside of the range \[0, 1\]"),
        (torch.rand(2, 8, 8, 3), {}, r"shape \(2, 8, 8, 3\) was given; expected images \(b, 3, h, w\)"),
        (torch.rand(3, 8, 8), {}, "was given; expected images"),
        (np.zeros((2, 3, 8, 3), np.uint8), {}, "could be either"),
        (np.zeros((2, 8, 8), np.uint8), {}, "is neither"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 4, 4)], {}, "different shapes"),
        (["a.png"], {}, "a list of str was given"),
        ([], {}, "a list of nothing was given"),
        (3, {}, "images of type int"),
        (Image.new("RGB", (8, 8)), {}, "expected several"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), {"resolution": 16}, "tensors and arrays are not resized"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), {"labels": [1]}, "1 labels were given for 2 images"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), {"labels": True}, "give the class of each image"),
    ],
)
def test_what_is_ambiguous_is_refused(images, options, message):
    """One sentence that says what to give instead."""
    with pytest.raises(DataError, match=message):
        image_set(images, **options)


def test_a_folder_that_is_missing_is_a_mistake_of_the_caller(tmp_path):
    """As on the command line; likewise an empty folder."""
    with pytest.raises(SpecError, match="is neither a folder nor a dataset"):
        image_set(tmp_path / "none")
    with pytest.raises(SpecError, match="holds neither images nor videos"):
        image_set(tmp_path)


def test_labels_go_with_their_images():
    """Of images in memory, as a list or a tensor."""
    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    for labels in ([2, 0, 1], torch.tensor([2, 0, 1])):
        made = image_set(images, labels=labels).dataset
        assert [made[index].label for index in range(3)] == [2, 0, 1]
        assert made.num_classes == 3
