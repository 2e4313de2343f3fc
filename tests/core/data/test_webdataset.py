import gc
import io
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from diffusability.core.contracts.dataset import FilteredExample, UnreadableExample
from diffusability.core.data.shards.tar_index import build_index, split_key
from diffusability.core.data.specs.webdataset import WebDatasetSpec
from diffusability.core.engine.batches import BatchPlan, batches
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def png(value, size=(20, 16)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(buffer, "png")
    return buffer.getvalue()


def shard(path, values, **changes):
    """A shard as webdataset's own writer makes it: example ``i`` is a grey of value ``i`` with class ``i % 3``."""
    with webdataset.TarWriter(str(path)) as writer:
        for value in values:
            writer.write(
                {"__key__": f"{value:04d}", "png": png(value), "cls": value % 3, **changes.get(f"at{value}", {})}
            )
    return path


def opened(shards, split="train", **fields):
    spec = WebDatasetSpec(shards=shards, **{"resolution": 8, "validation_share": 1e-9, "label": "cls", **fields})
    spec.check_inputs()
    return spec.build(BuildContext(), split)


def value_of(example):
    return round((float(example.data[0, 0, 0]) + 1) * 127.5)


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_examples_are_those_that_the_library_reads(tmp_path):
    """Pixels and labels in order against webdataset's own sequential reader, over two shards by a brace pattern."""
    for number, values in enumerate((range(7), range(7, 12))):
        shard(tmp_path / f"s-{number:03d}.tar", values)
    pattern = str(tmp_path / "s-{000..001}.tar")
    dataset = opened(pattern)
    theirs = list(webdataset.WebDataset(pattern, shardshuffle=False).decode("pil").to_tuple("png", "cls"))
    gc.collect()  # the library leaves its files to the garbage collector
    assert len(dataset) == len(theirs) == 12
    assert dataset.num_classes == 3
    for index in reversed(range(12)):  # any order will do
        image, label = theirs[index]
        assert value_of(dataset[index]) == np.asarray(image)[0, 0, 0]
        assert dataset[index].label == int(label)


def test_the_order_is_the_same_on_any_number_of_ranks_and_after_resuming(tmp_path):
    """Examples by place in the global batch: one rank against two, and from the middle on; workers do not matter."""
    shard(tmp_path / "a.tar", range(10))
    dataset = opened(str(tmp_path / "a.tar"))

    def drawn(num_ranks, first_step=0, workers=0):
        steps = {step: [None] * 4 for step in range(first_step, 6)}
        for rank in range(num_ranks):
            plan = BatchPlan(seed=3, batch_size=4, micro_batch_size=4 // num_ranks, rank=rank, num_ranks=num_ranks)
            for loaded in batches(dataset, plan, first_step, 6, workers):
                for place, data in zip(loaded.batch.randomness.positions, loaded.batch.data, strict=True):
                    steps[loaded.batch.randomness.step][place] = round((float(data[0, 0, 0]) + 1) * 127.5)
        return steps

    whole = drawn(1)
    assert drawn(2) == whole
    assert drawn(1, first_step=3, workers=1) == {step: whole[step] for step in range(3, 6)}
    assert sorted(value for step in range(5) for value in whole[step]) == sorted([*range(10)] * 2)


def test_the_index_is_built_once_and_anew_for_a_changed_file(tmp_path, monkeypatch):
    """The second opening reads no tar; a file of another size does."""
    path = shard(tmp_path / "a.tar", range(4))
    opened(str(path))
    calls = []
    monkeypatch.setattr(
        "diffusability.core.data.shards.tar_index.build_index", lambda *a: calls.append(a) or build_index(*a)
    )
    assert len(opened(str(path))) == 4
    assert calls == []
    shard(path, range(6))
    os.utime(path, ns=(1, 1))
    assert len(opened(str(path))) == 6
    assert len(calls) == 1


def test_training_and_validation_part_the_examples_by_key(tmp_path):
    """Disjoint, together all, and stable when shards are cut otherwise; shards of their own take over."""
    shard(tmp_path / "a.tar", range(60))
    datasets = {
        split: opened(str(tmp_path / "a.tar"), split, validation_share=0.3) for split in ("train", "validation")
    }
    values = {split: {value_of(dataset[i]) for i in range(len(dataset))} for split, dataset in datasets.items()}
    assert values["train"] | values["validation"] == set(range(60))
    assert not values["train"] & values["validation"]
    assert 8 < len(values["validation"]) < 30
    shard(tmp_path / "b.tar", range(30, 60))
    other = opened(str(tmp_path / "b.tar"), "validation", validation_share=0.3)
    assert {value_of(other[i]) for i in range(len(other))} == {v for v in values["validation"] if v >= 30}
    shard(tmp_path / "c.tar", range(60, 90))
    own = opened(str(tmp_path / "a.tar"), "validation", validation_shards=str(tmp_path / "c.tar"))
    assert len(own) == 30


def test_a_corrupt_member_is_named_and_the_others_are_read(tmp_path):
    """An image cut short inside a whole tar: its shard and member in the report, from load and from training."""
    path = shard(tmp_path / "a.tar", range(5), at3={"png": png(3)[:40]})
    dataset = opened(str(path))
    with pytest.raises(UnreadableExample, match=r"a\.tar: 0003\.png: "):
        dataset[3]
    assert [value_of(dataset[i]) for i in (0, 1, 2, 4)] == [0, 1, 2, 4]
    plan = BatchPlan(seed=0, batch_size=5, micro_batch_size=5, rank=0, num_ranks=1)
    (loaded,) = batches(dataset, plan, 0, 1)
    assert any("0003.png" in report for report in loaded.unreadable)
    assert len(loaded.batch.data) == 5


@pytest.mark.parametrize(
    ("where", "reason"), [("offset", "no valid member begins"), ("offset_data", r"member '0005\.png' is cut short")]
)
def test_a_tar_that_ends_too_early_is_named(tmp_path, where, reason):
    """Cut in a header, and in an image: what is whole is read, and the loss is one more example that says so."""
    path = shard(tmp_path / "a.tar", range(8))
    with tarfile.open(path) as whole:
        fifth = next(member for member in whole if member.name == "0005.png")
    path.write_bytes(path.read_bytes()[: getattr(fifth, where) + 30])
    dataset = opened(str(path), max_unreadable_share=0.5)
    unreadable, values = [], []
    for index in range(len(dataset)):
        try:
            values.append(value_of(dataset[index]))
        except UnreadableExample as error:
            unreadable.append(str(error))
    assert values == [0, 1, 2, 3, 4]
    assert len(unreadable) == 1
    assert re.search(rf"a\.tar: {reason}", unreadable[0])


def test_a_damaged_header_is_no_silent_end(tmp_path):
    """Bytes of a header in the middle overwritten: tarfile would take it for the end of the archive."""
    path = shard(tmp_path / "a.tar", range(6))
    with tarfile.open(path) as whole:
        third = next(member for member in whole if member.name == "0003.png")
    with path.open("r+b") as file:
        file.seek(third.offset + 148)  # the checksum
        file.write(b"garbage!")
    dataset = opened(str(path))
    with pytest.raises(UnreadableExample, match=r"no valid member begins at byte .* what follows is lost"):
        dataset[len(dataset) - 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"this is no tar file" * 60, "not a readable tar file"),
        (b"\0" * 1024, "no train examples"),
    ],
)
def test_what_is_no_tar_is_refused(tmp_path, content, message):
    """An empty file and text are not tar files; an empty tar has no examples."""
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(str(tmp_path / "a.tar"))


def test_missing_shards_are_refused(tmp_path):
    """A single one when checking; one of a pattern when opening; a URL without a folder to put it."""
    with pytest.raises(ValueError, match=r"none\.tar' does not exist"):
        opened(str(tmp_path / "none.tar"))
    shard(tmp_path / "s-0.tar", range(2))
    with pytest.raises(DataError, match=r"s-1\.tar' and 1 more"):
        opened(str(tmp_path / "s-{0..2}.tar"))
    with pytest.raises(ValueError, match="is a URL; give 'download_to'"):
        opened("https://example.org/a.tar")


def test_a_url_is_fetched_once_through_the_librarys_reader(tmp_path):
    """A pipe: URL, which runs a command: the second opening must not run it again; a failing one leaves no file."""
    path = shard(tmp_path / "a.tar", range(3))
    log = tmp_path / "log"
    url = f"pipe:echo x >> {log}; cat {path}"
    for _ in range(2):
        dataset = opened(url, download_to=tmp_path / "copies")
        assert [value_of(dataset[i]) for i in range(3)] == [0, 1, 2]
    assert log.read_text() == "x\n"
    with pytest.raises(DataError, match="cannot be fetched"):
        opened("pipe:false", download_to=tmp_path / "copies2")
    assert not [path for path in (tmp_path / "copies2").iterdir() if path.suffix != ".lock"]


def test_labels_and_images_that_are_missing_are_named(tmp_path):
    """No label member, a label beyond num_classes, no image member; a label that is not a number stops at once."""
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        writer.write({"__key__": "a", "png": png(1), "cls": 0})
        writer.write({"__key__": "b", "png": png(2)})
        writer.write({"__key__": "c", "cls": 1})
    dataset = opened(str(tmp_path / "a.tar"))
    with pytest.raises(UnreadableExample, match=r"b\.png' has no label"):
        dataset[1]
    with pytest.raises(UnreadableExample, match="has no image; expected a member ending in jpg"):
        dataset[2]
    shard(tmp_path / "b.tar", range(3))
    with pytest.raises(UnreadableExample, match="has label 2; there are 2 classes"):
        opened(str(tmp_path / "b.tar"), num_classes=2)[2]
    shard(tmp_path / "c.tar", range(2), at1={"cls": "dog"})
    with pytest.raises(DataError, match="holds 'dog'; expected a class number"):
        opened(str(tmp_path / "c.tar"))


def test_filters_leave_out_by_size_without_a_report(tmp_path):
    """Too small and too long images: FilteredExample when asked for; training takes others and reports nothing."""
    path = shard(tmp_path / "a.tar", range(8), at2={"png": png(2, (8, 8))}, at5={"png": png(5, (64, 16))})
    dataset = opened(str(path), min_size=16, max_aspect=2.0, crop="center")
    for index, reason in ((2, "8x8 pixels, and min_size is 16"), (5, "64x16 pixels, and max_aspect is 2.0")):
        with pytest.raises(FilteredExample, match=reason):
            dataset[index]
    plan = BatchPlan(seed=0, batch_size=8, micro_batch_size=8, rank=0, num_ranks=1)
    (loaded,) = batches(dataset, plan, 0, 1)
    assert list(loaded.unreadable) == []
    assert not {2, 5} & {round((float(data[0, 0, 0]) + 1) * 127.5) for data in loaded.batch.data}


def test_many_shards_need_few_open_files(tmp_path):
    """More shards than are kept open: all are read, and read again."""
    for number in range(70):
        shard(tmp_path / f"s-{number:02d}.tar", [number])
    dataset = opened(str(tmp_path / "s-{00..69}.tar"))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    assert [value_of(dataset[i]) for i in [*range(70), *range(70)]] == [*range(70), *range(70)]
    assert len(os.listdir("/proc/self/fd")) - before <= 64 if before else True


def test_keys_are_split_as_the_library_splits_them():
    """Against webdataset's base_plus_ext."""
    from webdataset.tariterators import base_plus_ext

    for name in ("a.jpg", "dir/a.seg.png", "x/y.z/a.cls", "plain"):
        base, extension = base_plus_ext(name)
        assert split_key(name) == ((base, extension) if base else (name, ""))


def test_an_example_depends_on_index_and_generator_alone(tmp_path):
    """Random crops of a gradient: twice the same, another generator another; the fixed view without one."""
    wide = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (16, 1))).convert("RGB")
    buffer = io.BytesIO()
    wide.save(buffer, "png")
    path = shard(tmp_path / "a.tar", range(1), at0={"png": buffer.getvalue()})
    dataset = opened(str(path))
    make = torch.Generator().manual_seed
    assert torch.equal(dataset.load(0, make(1)).data, dataset.load(0, torch.Generator().manual_seed(1)).data)
    assert not torch.equal(dataset.load(0, torch.Generator().manual_seed(1)).data, dataset[0].data)
    assert torch.equal(dataset[0].data, dataset[0].data)


def theirs_of(path):
    """Keys, extensions and pictures as webdataset's own sequential reader gives them."""
    return [
        (sample["__key__"], sample.get("png"), sample.get("cls"))
        for sample in webdataset.WebDataset(str(path), shardshuffle=False)
    ]


def tar_of(path, members):
    with tarfile.open(path, "w") as opened_tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened_tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "order",
    [
        [*range(12), *range(12)],  # a shard written twice
        [0, 1, 0, 1, 2],
        [5, 4, 5],
    ],
)
def test_a_key_that_comes_again_is_a_further_example(tmp_path, order):
    """Pixels and labels in order against webdataset's reader; the members of an example stand together."""
    members = [
        (f"{key:04d}.{extension}", content)
        for place, key in enumerate(order)
        for extension, content in (("png", png(10 * place)), ("cls", b"%d" % (place % 3)))
    ]
    path = tar_of(tmp_path / "twice.tar", members)
    dataset = opened(str(path))
    expected = theirs_of(path)
    assert len(dataset) == len(expected) == len(order)
    for place, (_, image, label) in enumerate(expected):
        value = np.asarray(Image.open(io.BytesIO(image)))[0, 0, 0]
        assert (value_of(dataset[place]), dataset[place].label) == (value, int(label))


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_members_that_are_no_examples_are_left_out_as_in_webdataset(tmp_path):
    """A member without an extension, metadata by name, and a folder."""
    members = [("README", b"text"), ("__meta__/a.json", b"{}"), ("a/0.png", png(3)), ("a/0.cls", b"1")]
    path = tar_of(tmp_path / "mixed.tar", members)
    assert [key for key, _, _ in theirs_of(path)] == ["a/0"]
    dataset = opened(str(path))
    assert [value_of(dataset[i]) for i in range(len(dataset))] == [3]


@pytest.mark.parametrize("how", ["same", "link", "copy", "part"])
def test_validation_shards_that_hold_training_examples_are_refused(tmp_path, how):
    """The shard itself, a link to it, a copy of it, and a shard that shares two of its examples."""
    first, second = shard(tmp_path / "a.tar", range(12)), tmp_path / "b.tar"
    if how == "same":
        second = first
    elif how == "link":
        second.symlink_to(first)
    elif how == "copy":
        second.write_bytes(first.read_bytes())
    else:
        shard(second, range(10, 20))
    message = f"{2 if how == 'part' else 12} of {10 if how == 'part' else 12} validation examples are training examples"
    for split in ("train", "validation"):
        with pytest.raises(DataError, match=message):
            opened(str(first), split, validation_shards=str(second))
