import io
import os
import zipfile
from itertools import pairwise

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.specs.huggingface import HuggingFaceSpec
from diffusability.core.engine.batches import BatchPlan, batches
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.stages.evaluation_data import fixed_order


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def table(values, broken=()):
    """Rows with a grey image of value ``i`` and class ``i % 3``."""
    rows = []
    for value in values:
        buffer = io.BytesIO()
        Image.new("L", (12, 10), value).save(buffer, "png")
        content = buffer.getvalue()
        rows.append({"bytes": content[:30] if value in broken else content, "path": None})
    features = datasets.Features({"image": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b", "c"])})
    return datasets.Dataset.from_dict({"image": rows, "kind": [value % 3 for value in values]}, features=features)


def saved(folder, count=10, **fields):
    table(range(count), **fields).save_to_disk(str(folder))
    return folder


def parquet(folder, shards=3, each=4, **fields):
    folder.mkdir()
    for number in range(shards):
        values = range(number * each, (number + 1) * each)
        table(values, **fields).to_parquet(str(folder / f"train-{number:05d}.parquet"))
    return folder


def opened(path, split="train", **fields):
    settings = {"resolution": 8, "validation_share": 1e-9, "label": "kind", "num_workers": 0, **fields}
    spec = HuggingFaceSpec(path=str(path), **settings)
    spec.check_inputs()
    return spec.build(BuildContext(), split)


def value_of(example):
    return round((float(example.data[0, 0, 0]) + 1) * 127.5)


def test_a_saved_set_is_read_in_its_order(tmp_path):
    """Pixels, labels and class names of save_to_disk against the library's own decoding."""
    dataset = opened(saved(tmp_path / "set"))
    theirs = datasets.load_from_disk(str(tmp_path / "set"))
    assert len(dataset) == 10
    assert dataset.class_names == ["a", "b", "c"]
    for index in range(10):
        assert value_of(dataset[index]) == np.asarray(theirs[index]["image"])[0, 0]
        assert dataset[index].label == theirs[index]["kind"]
        assert dataset[index].data.shape == (3, 8, 8)  # grey is repeated


def test_a_stream_gives_the_same_examples_as_the_table(tmp_path):
    """Parquet shards opened both ways, each example by its index."""
    path = parquet(tmp_path / "set")
    whole, stream = opened(path), opened(path, streaming=True)
    assert len(stream) == len(whole) == 12
    for index in (11, 0, 5, 4, 7):
        assert torch.equal(stream[index].data, whole[index].data)
        assert stream[index].label == whole[index].label


def test_a_streams_order_keeps_shards_together_and_is_exact(tmp_path):
    """Every epoch: each example once, shards one after the other, another order each time; one rank against two, and
    resumed in the middle of a shard."""
    dataset = opened(parquet(tmp_path / "set"), streaming=True)
    orders = [dataset.order(torch.Generator().manual_seed(seed)).tolist() for seed in range(6)]
    assert len({tuple(order) for order in orders}) == 6
    for order in orders:
        assert sorted(order) == list(range(12))
        shards = [index // 4 for index in order]
        assert len([1 for a, b in pairwise(shards) if a != b]) == 2

    def drawn(num_ranks, first_step):
        brightness = {}
        for rank in range(num_ranks):
            plan = BatchPlan(seed=1, batch_size=2, micro_batch_size=2 // num_ranks, rank=rank, num_ranks=num_ranks)
            for loaded in batches(dataset, plan, first_step, 12):
                for place, data in zip(loaded.batch.randomness.positions, loaded.batch.data, strict=True):
                    brightness[loaded.batch.randomness.step, place] = round((float(data[0, 0, 0]) + 1) * 127.5)
        return brightness

    whole = drawn(1, 0)
    assert drawn(2, 0) == whole
    assert drawn(1, 5) == {key: value for key, value in whole.items() if key[0] >= 5}
    assert sorted(whole[step, place] for step in range(6) for place in range(2)) == list(range(12))
    assert [index // 4 for index in fixed_order(dataset, 4)].count(fixed_order(dataset, 4)[0] // 4) == 4


def test_a_stream_reads_one_shard_at_a_time(tmp_path):
    """Shards held in memory after an epoch in its order: two of three, each read once."""
    dataset = opened(parquet(tmp_path / "set"), streaming=True)
    reads = []
    inner = dataset.shards.stream

    class Counting:
        def __getattr__(self, name):
            return getattr(inner, name)

        def shard(self, count, number):
            reads.append(number)
            return inner.shard(count, number)

    dataset.shards.stream = Counting()
    for index in dataset.order(torch.Generator().manual_seed(0)).tolist():
        dataset[index]
    assert sorted(reads) == [0, 1, 2]
    assert len(dataset.shards._read) == 2


def test_rows_are_counted_once_and_anew_for_a_changed_set(tmp_path):
    """The second opening finds the counts in the cache folder; more rows are noticed."""
    path = parquet(tmp_path / "set")
    assert opened(path, streaming=True).shards.sizes == [4, 4, 4]
    (kept,) = (tmp_path / "cache" / "diffusability" / "stream-index").iterdir()
    kept.write_text("[1, 1, 1]")
    assert opened(path, streaming=True).shards.sizes == [1, 1, 1]
    table(range(6)).to_parquet(str(path / "train-00001.parquet"))
    os.utime(path / "train-00001.parquet", ns=(1, 1))
    assert opened(path, streaming=True).shards.sizes == [4, 6, 4]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_broken_image_is_named(tmp_path, streaming):
    """An image cut short: the set and its row; neighbours are read."""
    dataset = opened(parquet(tmp_path / "set", broken=(5,)), streaming=streaming)
    with pytest.raises(UnreadableExample, match=r"set \(train\) row 5: "):
        dataset[5]
    assert value_of(dataset[6]) == 6


def test_both_splits_part_the_rows(tmp_path):
    """By share: disjoint and together all; a split that is named takes over, one that is missing is refused."""
    path = saved(tmp_path / "set", 60)
    parts = [opened(path, split, validation_share=0.3) for split in ("train", "validation")]
    values = [{value_of(part[i]) for i in range(len(part))} for part in parts]
    assert values[0] | values[1] == set(range(60))
    assert not values[0] & values[1]
    both = datasets.DatasetDict({"train": table(range(4)), "test": table(range(4, 11))})
    both.save_to_disk(str(tmp_path / "both"))
    assert len(opened(tmp_path / "both", "validation", validation_split="test")) == 7
    with pytest.raises(DataError, match="no split 'dev'; it has train, test"):
        opened(tmp_path / "both", "validation", validation_split="dev")


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"image": "picture"}, "no column 'picture'; it has image, kind"), ({"label": "cls"}, "no column 'cls'")],
)
def test_missing_columns_are_named(tmp_path, fields, message):
    """With what there is."""
    with pytest.raises(DataError, match=message):
        opened(saved(tmp_path / "set"), **fields)


def test_a_missing_folder_is_refused_when_checking(tmp_path):
    """A path that looks local; and save_to_disk's format, which cannot be streamed."""
    with pytest.raises(ValueError, match="does not exist; expected a folder, or a hub id"):
        opened(tmp_path / "none")
    with pytest.raises(DataError, match="leave 'streaming' out"):
        opened(saved(tmp_path / "set"), streaming=True)


def test_a_missing_library_is_named_with_its_extra(monkeypatch, tmp_path):
    """As when the extra was not installed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'datasets', .* pip install 'diffusability-core\[huggingface\]'"):
        HuggingFaceSpec(path=str(tmp_path)).check_inputs()


def test_validation_rows_that_are_training_rows_are_refused(tmp_path):
    """One set saved without splits; the same rows under two names; one split given twice; parts that overlap."""
    path = saved(tmp_path / "one", 40)
    for split in ("train", "validation"):
        with pytest.raises(DataError, match="one set without splits, so its validation_split 'test' would be what is"):
            opened(path, split, validation_split="test")
    both = datasets.DatasetDict({"train": table(range(9)), "test": table(range(8, 12))})
    both.save_to_disk(str(tmp_path / "both"))
    with pytest.raises(DataError, match=r"1 of 4 validation examples are training examples, such as row 0 \(row 8"):
        opened(tmp_path / "both", validation_split="test")
    with pytest.raises(DataError, match="validation would be what is trained on"):
        opened(tmp_path / "both", validation_split="train")
    files = parquet(tmp_path / "files")
    parts = {"path": str(files), "resolution": 8, "split": "train[:75%]"}
    held_out = HuggingFaceSpec(**parts, validation_split="train[75%:]").build(BuildContext(), "validation")
    assert len(held_out) == 3
    with pytest.raises(DataError, match="3 of 6 validation examples"):
        HuggingFaceSpec(**parts, validation_split="train[50%:]").build(BuildContext(), "train")


def test_columns_of_bytes_and_truth_values_are_read_and_others_are_refused(tmp_path):
    """Encoded images without the Image feature, and labels that are true or false; a list of images for each row."""
    content = table(range(2))[:]["image"]
    encoded = [io.BytesIO() for _ in content]
    for image, buffer in zip(content, encoded, strict=True):
        image.save(buffer, "png")
    columns = {"image": [buffer.getvalue() for buffer in encoded], "kind": [True, False]}
    datasets.Dataset.from_dict(columns).save_to_disk(str(tmp_path / "bytes"))
    dataset = opened(tmp_path / "bytes")
    assert [value_of(dataset[number]) for number in range(2)] == [0, 1]
    assert [dataset[number].label for number in range(2)] == [1, 0]
    for name, values in (("numbers", [1, 2]), ("lists", [["a.png"], ["b.png"]])):
        datasets.Dataset.from_dict({"image": values}).save_to_disk(str(tmp_path / name))
    with pytest.raises(DataError, match=r"column .image. of dataset .*numbers. holds .*expected images"):
        opened(tmp_path / "numbers", label=None)
    images = datasets.Features({"image": datasets.Sequence(datasets.Image())})
    rows = {"image": [[{"bytes": columns["image"][0], "path": None}]]}
    datasets.Dataset.from_dict(rows, features=images).save_to_disk(str(tmp_path / "many"))
    with pytest.raises(DataError, match=r"holds .*Image.*expected images"):
        opened(tmp_path / "many", label=None)


def test_an_image_inside_a_zip_is_read_and_a_url_that_fails_is_named(tmp_path):
    """Paths as the library writes them for archives; no network is used."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        table([7])[0]["image"].save(archive.open("x.png", "w"), "png")
    rows = {"image": [f"zip://x.png::{tmp_path / 'a.zip'}", f"zip://y.png::{tmp_path / 'a.zip'}"]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "set"))
    dataset = opened(tmp_path / "set", label=None)
    assert value_of(dataset[0]) == 7
    with pytest.raises(UnreadableExample, match=r"row 1.*y\.png"):
        dataset[1]


def test_a_stream_says_that_its_splits_are_not_compared_by_content(tmp_path):
    """The names of the splits are compared, and that is all that does not read everything."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("train", "test"):
        table(range(4)).to_parquet(str(folder / f"{name}-0.parquet"))
    dataset = opened(folder, streaming=True, validation_split="test")
    assert any("not compared by content" in note for note in dataset.notes)
    with pytest.raises(DataError, match="share no example"):
        opened(folder, streaming=True, validation_split="train")
