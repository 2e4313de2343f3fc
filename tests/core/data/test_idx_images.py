import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusability.core.data.idx_images import read_idx
from diffusability.core.data.specs.idx_images import IdxImagesSpec
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext

FASHION = Path("/usr/share/datasets/fashion-mnist")


def idx(values):
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return header + values.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    """Four training and two validation images of 6x4 pixels; image ``i`` holds ``10 i + position``, or 50 more."""
    for prefix, count in (("train", 4), ("t10k", 2)):
        images = np.arange(24).reshape(1, 6, 4) + 10 * np.arange(count).reshape(-1, 1, 1)
        images = images + (50 if prefix == "t10k" else 0)
        labels = np.arange(count) % 3
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def opened(folder, split="train", **fields):
    spec = IdxImagesSpec(path=folder, resolution=8, **fields)
    spec.check_inputs()
    return spec.build(BuildContext(), split)


def test_pixels_stand_in_the_middle_unchanged(folder):
    """Values against the array that was written, borders against black; compressed and plain files alike."""
    dataset = opened(folder)
    data = dataset[2].data
    assert data.shape == (3, 8, 8)
    inner = (data[:, 1:7, 2:6] + 1) * 127.5
    torch.testing.assert_close(inner, (torch.arange(24.0).view(1, 6, 4) + 20).expand(3, -1, -1))
    assert float(data[:, 0].max()) == -1
    assert (len(dataset), len(opened(folder, "validation"))) == (4, 2)


def test_labels_and_classes(folder):
    """Both splits have as many classes as training has; none without labels; one channel if asked."""
    for split in ("train", "validation"):
        dataset = opened(folder, split)
        assert dataset.num_classes == 3
        assert [dataset[i].label for i in range(len(dataset))] == [i % 3 for i in range(len(dataset))]
    plain = opened(folder, labels=False, channels=1)
    assert plain.num_classes is None
    assert plain[0].label is None
    assert plain[0].data.shape == (1, 8, 8)


def test_larger_images_are_reduced(folder):
    """A square smaller than the images: everything is still there, on average."""
    spec = IdxImagesSpec(path=folder, resolution=4)
    data = spec.build(BuildContext(), "train")[0].data
    assert data.shape == (3, 4, 4)
    assert abs(float((data.mean() + 1) * 127.5) - 11.5) < 1


@pytest.mark.parametrize("damage", ["cut", "magic", "gzip"])
def test_damaged_files_are_named(folder, damage):
    """Cut short, another format, half a compressed file."""
    path = folder / "train-images-idx3-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    changed = {
        "cut": gzip.compress(content[:-5]),
        "magic": gzip.compress(b"PK" + content),
        "gzip": path.read_bytes()[:40],
    }
    path.write_bytes(changed[damage])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
        opened(folder)


def test_missing_files_and_mismatched_labels_are_refused(folder):
    """When checking; when opening."""
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3)))
    with pytest.raises(DataError, match=r"4 train images and labels of shape \(3,\)"):
        opened(folder)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match=r"no t10k-labels-idx1-ubyte\.gz"):
        opened(folder)


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist():
    """70,000 products of 10 classes, 28x28."""
    images = read_idx(FASHION / "train-images-idx3-ubyte.gz")
    assert images.shape == (60000, 28, 28)
    dataset = IdxImagesSpec().build(BuildContext(), "validation")
    assert (len(dataset), dataset.num_classes) == (10000, 10)


def test_validation_images_that_are_training_images_are_refused(folder):
    """The validation file as a link to the training file."""
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    (folder / "t10k-images-idx3-ubyte.gz").symlink_to(folder / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match="4 of 4 validation examples are training examples"):
        opened(folder)
