import os
import shutil
import signal
import socket

import pytest
import torchvision
from PIL import Image, features

from diffusability.core.data.image_folder import image_paths
from diffusability.core.data.specs.image_folder import ImageFolderSpec
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext


def folder_of(root, names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (number * 7 % 256, number * 13 % 256, 40)).save(root / name)


def opened(path, split="train", **fields):
    return ImageFolderSpec(path=path, resolution=16, **fields).build(BuildContext(), split)


def test_links_count_a_file_once_and_circles_end(tmp_path):
    """A link to the folder above, two that lead to themselves' folder, a link and a hard link to a file."""
    folder_of(tmp_path, [f"a/{number}.png" for number in range(8)])
    expected = [f"a/{number}.png" for number in range(8)]
    (tmp_path / "a" / "loop").symlink_to("..")
    for name in ("x", "y"):
        (tmp_path / "a" / name).symlink_to(".")
    (tmp_path / "0.png").symlink_to("a/3.png")
    (tmp_path / "a" / "9.png").hardlink_to(tmp_path / "a" / "4.png")
    (tmp_path / "again").symlink_to("a")
    assert image_paths(tmp_path) == expected
    parts = [opened(tmp_path, split, validation_share=0.5) for split in ("train", "validation")]
    assert sorted(parts[0].paths + parts[1].paths) == expected
    assert "2 links lead to images that are there already" in parts[0].notes[0]


def test_links_to_files_and_folders_elsewhere_are_followed(tmp_path):
    """A set made of links alone; a name without a link is preferred to one through it."""
    folder_of(tmp_path / "store", ["0.png", "1.png"])
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "all").symlink_to(tmp_path / "store")
    (tmp_path / "set" / "zero.png").symlink_to(tmp_path / "store" / "0.png")
    (tmp_path / "set" / "lost.png").symlink_to("nowhere")
    assert image_paths(tmp_path / "set") == ["all/0.png", "all/1.png", "lost.png"]


def test_folders_that_cannot_be_listed_are_named(tmp_path, monkeypatch):
    """By an error of the system."""
    folder_of(tmp_path, ["a/0.png", "b/0.png"])
    scandir = os.scandir

    def refuses(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuses)
    with pytest.raises(DataError, match=r"folder '.*/b' cannot be listed: Permission denied"):
        opened(tmp_path)


def test_pipes_and_sockets_are_no_images(tmp_path):
    """A pipe named like an image would block whoever opens it."""
    folder_of(tmp_path, ["0.png"])
    os.mkfifo(tmp_path / "1.png")
    (tmp_path / "2.png").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "3.png"))
        assert image_paths(tmp_path) == ["0.png"]


def test_every_suffix_of_an_image_is_read_or_counted(tmp_path):
    """JPEG under its further names; AVIF where Pillow has it; what remains is said."""
    folder_of(tmp_path, ["0.png"])
    for name in ("1.nef", "2.CR2", "3.nef", "4.txt"):
        (tmp_path / name).touch()
    Image.new("RGB", (9, 9)).save(tmp_path / "5.jfif", "jpeg")
    Image.new("RGB", (9, 9)).save(tmp_path / "6.JPE", "jpeg")
    names = ["0.png", "5.jfif", "6.JPE"]
    if features.check("avif"):
        Image.new("RGB", (9, 9)).save(tmp_path / "7.avif")
        names.append("7.avif")
    dataset = opened(tmp_path, validation_share=1e-9)
    assert dataset.paths == names
    assert [dataset[number].data.shape for number in range(1, len(names))] == [(3, 16, 16)] * (len(names) - 1)
    assert any("1 .cr2, 2 .nef files are left out" in note for note in dataset.notes)


def test_an_empty_class_folder_keeps_its_number(tmp_path):
    """As in torchvision with allow_empty; and it is said."""
    folder_of(tmp_path, ["a/0.png", "c/0.png"])
    (tmp_path / "b").mkdir()
    dataset = opened(tmp_path, labels="folder", validation_share=1e-9)
    theirs = torchvision.datasets.ImageFolder(str(tmp_path), allow_empty=True)
    assert dataset.class_names == theirs.classes
    assert [dataset[index].label for index in range(2)] == theirs.targets == [0, 2]
    assert "class folders without images keep their numbers: 'b' (class 1)" in dataset.notes[0]


@pytest.mark.parametrize("how", ["same", "inside", "link", "copy", "one"])
def test_a_validation_folder_that_holds_training_images_is_refused(tmp_path, how):
    """The folder itself, one inside it, a link to it, a copy, and a single image with another name."""
    images = tmp_path / "images"
    folder_of(images, ["a/0.png", "a/1.png", "b/2.png"])
    held_out = {"same": images, "inside": images / "a"}.get(how, tmp_path / "held-out")
    if how == "link":
        held_out.symlink_to(images)
    elif how == "copy":
        shutil.copytree(images, held_out)
    elif how == "one":
        folder_of(held_out, ["x.png"])
        Image.new("RGB", (9, 9), "red").save(held_out / "x.png")
        (held_out / "y.png").write_bytes((images / "a" / "0.png").read_bytes())
    for split in ("train", "validation"):
        with pytest.raises(DataError, match="validation examples are training examples, such as"):
            opened(images, split, validation_path=held_out)


def test_all_of_a_folder_may_be_validation(tmp_path):
    """A share of 1, which scorecards use: nothing is left for training."""
    folder_of(tmp_path, ["0.png", "1.png"])
    assert len(opened(tmp_path, "validation", validation_share=1)) == 2
    with pytest.raises(DataError, match="no train images"):
        opened(tmp_path, "train", validation_share=1)


def test_a_signal_ends_the_opening_of_data_at_once():
    """SIGTERM while a library that catches every Exception is at work; afterwards signals only ask, as before."""
    stop = StopRequest()
    reached = []
    with stop.listening():
        with stop.at_once():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                reached.append("after the signal")
            except Exception:  # noqa: BLE001 - as libraries do
                reached.append("caught")
        assert stop.signal_name == "SIGTERM"
        os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert reached == []


def test_folders_that_systems_make_hold_no_images_and_are_no_classes(tmp_path):
    """What macOS packs into a zip and a Synology NAS beside photographs: thumbnails with the suffix of images."""
    folder_of(tmp_path, ["a/0.png", "a/@eaDir/0.png/thumb.png", "__MACOSX/a/0.png", "b/0.png"])
    dataset = opened(tmp_path, labels="folder", validation_share=1e-9)
    assert dataset.paths == ["a/0.png", "b/0.png"]
    assert dataset.class_names == ["a", "b"]
