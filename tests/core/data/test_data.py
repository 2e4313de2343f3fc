import numpy as np
import pytest
import torch
from PIL import Image

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.image_files import read_rgb, to_tensor
from diffusability.core.data.image_folder import image_paths
from diffusability.core.data.sample_photos import PHOTOGRAPHS, photographs, region
from diffusability.core.data.specs.image_folder import ImageFolderSpec
from diffusability.core.data.specs.sample_photos import SamplePhotosSpec
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext


def generator(seed):
    return torch.Generator().manual_seed(seed)


def folder_of(tmp_path, names, size=(48, 40)):
    for number, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number * 7 % 256, number * 13 % 256, 40)).save(path)
    return tmp_path


def opened(tmp_path, split="train", **fields):
    return ImageFolderSpec(path=tmp_path, resolution=16, **fields).build(BuildContext(), split)


def test_photographs_are_real_and_colour():
    """All of them decode; none is grey."""
    images = photographs()
    assert len(images) == sum(map(len, PHOTOGRAPHS.values()))
    for image in images:
        pixels = np.asarray(image).astype(int)
        assert np.abs(pixels[..., 0] - pixels[..., 2]).mean() > 1


def test_training_and_validation_regions_are_disjoint():
    """No pixel of any photograph belongs to both."""
    for image in photographs():
        counts = np.zeros((image.height, image.width), dtype=int)
        for split in ("train", "validation"):
            left, top, right, bottom = region(image.size, split)
            counts[top:bottom, left:right] += 1
        assert counts.max() == 1
        assert counts.min() == 1


@pytest.mark.parametrize("split", ["train", "validation"])
def test_crops_come_from_their_own_region(split, monkeypatch):
    """Photographs that are white where the split may look and black elsewhere give white crops only."""
    masks = []
    for image in photographs():
        mask = Image.new("RGB", image.size, "black")
        left, top, right, bottom = region(image.size, split)
        mask.paste("white", (left, top, right, bottom))
        masks.append(mask)
    dataset = SamplePhotosSpec(resolution=64).build(BuildContext(), split)
    dataset.images = tuple(masks)
    for index in range(40):
        for source in (None, generator(index)):
            assert dataset.load(index, source).data.min() == 1


def test_an_example_depends_on_index_and_generator_alone():
    """Twice the same; another generator, another crop; without one, the fixed view."""
    dataset = SamplePhotosSpec(resolution=32).build(BuildContext(), "train")
    assert torch.equal(dataset.load(3, generator(1)).data, dataset.load(3, generator(1)).data)
    assert not torch.equal(dataset.load(3, generator(1)).data, dataset.load(3, generator(2)).data)
    assert torch.equal(dataset[3].data, dataset[3].data)
    assert dataset[3].data.shape == (3, 32, 32)
    assert -1 <= dataset[3].data.min() < dataset[3].data.max() <= 1


def test_pixels_map_to_minus_one_and_one():
    """0 to -1, 255 to 1, and back without loss."""
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(3).reshape(16, 16, 3)
    values = to_tensor(Image.fromarray(pixels))
    assert values.min() == -1
    assert values.max() == 1
    assert torch.equal(((values + 1) * 127.5).round().to(torch.uint8), torch.from_numpy(pixels).permute(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_every_mode_of_pixels_becomes_rgb(tmp_path, mode):
    """A mid-grey image in each mode: the same grey comes out."""
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 128 * 257, dtype=np.uint16))
    else:
        image = Image.new("RGB", (8, 8), (128, 128, 128)).convert("L" if mode == "LA" else "RGB")
        image = image.quantize(4) if mode == "P" else image.convert(mode)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "I;16") else "image.png")
    image.save(path)
    result = np.asarray(read_rgb(path))
    assert result.shape == (8, 8, 3)
    if mode != "1":
        assert np.abs(result.astype(int) - 128).max() <= 1


def test_transparency_is_laid_on_white(tmp_path):
    """A fully transparent black pixel is white, not black."""
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert np.asarray(read_rgb(tmp_path / "clear.png")).min() == 255


def test_exif_orientation_is_obeyed(tmp_path):
    """A picture stored lying, marked to be turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_rgb(tmp_path / "turned.jpg").size == (20, 40)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken", b"\xff\xd8\xff\xe0 cut"])
def test_files_that_are_no_images_are_named(tmp_path, content):
    """Empty, text, and broken headers."""
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableExample, match=r"broken\.png"):
        read_rgb(path)


def test_truncated_files_are_named(tmp_path):
    """Every format, cut at a third of its bytes."""
    for suffix in ("jpg", "png", "webp", "bmp", "tif"):
        path = tmp_path / f"cut.{suffix}"
        Image.effect_noise((64, 64), 80).convert("RGB").save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        with pytest.raises(UnreadableExample, match=f"cut.{suffix}"):
            read_rgb(path)


def test_splits_cover_the_folder_and_do_not_meet(tmp_path):
    """By name, so that adding files moves none of the others."""
    folder_of(tmp_path, [f"{number:03d}.png" for number in range(60)])
    train, validation = (opened(tmp_path, split, validation_share=0.3).paths for split in ("train", "validation"))
    assert sorted(train + validation) == image_paths(tmp_path)
    assert 6 < len(validation) < 30
    folder_of(tmp_path, ["new.png"])
    assert set(opened(tmp_path, "validation", validation_share=0.3).paths) - {"new.png"} == set(validation)


def test_class_folders_give_labels(tmp_path):
    """Sorted folder names, counted from 0, the same in both splits."""
    folder_of(tmp_path, [f"{name}/deep/{number}.png" for name in ("dog", "cat") for number in range(20)])
    dataset = opened(tmp_path, labels="folder")
    assert list(dataset.class_names) == ["cat", "dog"]
    assert dataset.num_classes == 2
    for index, path in enumerate(dataset.paths):
        assert dataset[index].label == int(path.startswith("dog"))


def test_loose_images_beside_class_folders_are_refused(tmp_path):
    """Which class would they be?"""
    folder_of(tmp_path, ["a/0.png", "loose.png"])
    with pytest.raises(DataError, match=r"loose\.png"):
        opened(tmp_path, labels="folder")


def test_hidden_files_are_left_out(tmp_path):
    """As macOS and editors leave them."""
    folder_of(tmp_path, ["a.png", "._a.png", ".cache/b.png"])
    assert image_paths(tmp_path) == ["a.png"]


def test_an_empty_split_is_an_error(tmp_path):
    """One file: one of the two splits has none."""
    folder_of(tmp_path, ["only.png"])
    with pytest.raises(DataError, match=r"no (validation|train) images"):
        [opened(tmp_path, split) for split in ("train", "validation")]


def test_evaluation_takes_the_centre(tmp_path):
    """A picture whose centre square is white and whose sides are black."""
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (10, 0, 30, 20))
    image.save(tmp_path / "wide.png")
    dataset = opened(tmp_path, validation_share=1e-9)
    assert dataset[0].data.min() == 1
    assert any(dataset.load(0, generator(seed)).data.min() == -1 for seed in range(5))
