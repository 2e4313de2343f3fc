"""Images of the Hugging Face library ``datasets``: prepared on disk, or streamed shard by shard."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from diffusability.core.contracts.dataset import Dataset, Example, UnreadableExample
from diffusability.core.data.huggingface_overlap import refuse_equal_rows
from diffusability.core.data.image_files import read_rgb
from diffusability.core.data.image_view import image_view
from diffusability.core.data.shards.streamed_shards import StreamedShards
from diffusability.core.data.specs.huggingface import HuggingFaceSpec
from diffusability.core.errors import DataError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.reading import lfs_problem, reading, reason_of
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import Split


def _opened(spec: HuggingFaceSpec, split: str) -> Any:
    """The split, its images not decoded. Raises DataError when it cannot be opened or lacks a column."""
    import datasets

    folder = Path(spec.path).expanduser()
    prepared = (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()
    try:
        if prepared and not spec.streaming:
            opened = datasets.load_from_disk(str(folder))
            if isinstance(opened, datasets.DatasetDict):
                if split not in opened:
                    raise DataError(f"{spec.path!r} has no split {split!r}; it has {', '.join(opened)}")
                opened = opened[split]
            elif split == spec.validation_split:
                raise DataError(
                    f"{spec.path!r} is one set without splits, so its validation_split {split!r} would be what is"
                    f" trained on; leave 'validation_split' out (validation_share keeps a part), or save a DatasetDict"
                )
        elif prepared:
            raise DataError(
                f"{spec.path!r} was written by save_to_disk and is read from disk as it is; leave 'streaming' out"
            )
        else:
            opened = datasets.load_dataset(
                str(folder) if folder.is_dir() else spec.path,
                spec.name,
                split=split,
                revision=spec.revision,
                streaming=spec.streaming,
            )
    except DataError:
        raise
    except Exception as error:
        reason = next(filter(None, (lfs_problem(file) for file, _, _ in _files_of(spec))), None) or reason_of(error)
        raise DataError(f"dataset {spec.path!r}, split {split!r}, cannot be opened: {reason}") from error
    columns = list(opened.column_names or opened.features or ())
    for column in filter(None, (spec.image, spec.label)):
        if column not in columns:
            raise DataError(f"dataset {spec.path!r} has no column {column!r}; it has {', '.join(columns)}")
    feature = (opened.features or {}).get(spec.image)
    if not _may_hold_images(feature):
        raise DataError(
            f"column {spec.image!r} of dataset {spec.path!r} holds {feature}; expected images, or their bytes or paths"
        )
    with reading("dataset", spec.path):
        return opened.cast_column(spec.image, datasets.Image(decode=False))


def _may_hold_images(feature: Any) -> bool:
    """Whether a column can be read as images; one of a stream that tells no features may be."""
    import datasets

    if isinstance(feature, datasets.Value):
        return feature.dtype in ("string", "large_string", "binary", "large_binary")
    if isinstance(feature, Mapping):
        return bool({"bytes", "path"} & set(feature))
    leaf = feature
    while hasattr(leaf, "feature"):  # of nested lists, which hold the pixels of one image
        leaf = leaf.feature
    nested = leaf is not feature and isinstance(leaf, datasets.Value)
    return nested or feature is None or isinstance(feature, datasets.Image) or hasattr(feature, "shape")


def _num_classes(opened: Any, label: str) -> tuple[int | None, list[str] | None]:
    names = getattr((opened.features or {}).get(label), "names", None)
    return (len(names), list(names)) if names is not None else (None, None)


def _files_of(spec: HuggingFaceSpec) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a local folder's files, which tell a changed set; none for one on the hub."""
    files = sorted(path for path in Path(spec.path).expanduser().rglob("*") if path.is_file())
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _is_validation(index: int, share: float) -> bool:
    return derived_seed("validation", index) / 2**63 < share


def _content(row: Mapping[str, Any], spec: HuggingFaceSpec, name: str) -> bytes | Path:
    value = row[spec.image]
    if not isinstance(value, Mapping) or not (value.get("bytes") or value.get("path")):
        raise UnreadableExample(f"{name}: column {spec.image!r} holds no image")
    if value.get("bytes"):
        return bytes(value["bytes"])
    if "://" not in value["path"]:
        return Path(value["path"])
    from datasets.utils.file_utils import xopen

    with reading(f"{name}:", value["path"], UnreadableExample), xopen(value["path"], "rb") as file:
        return bytes(file.read())


class _HuggingFaceImages(Dataset):
    """What the two ways of reading have in common: from a row to an example."""

    def __init__(self, spec: HuggingFaceSpec, split: Split) -> None:
        self.spec = spec
        self.split = split
        self.max_unreadable_share = spec.max_unreadable_share
        self.source = spec.split
        if split == "validation" and spec.validation_split is not None:
            self.source = spec.validation_split
        self.opened = _opened(spec, self.source)
        if spec.validation_split is not None:
            self.notes = refuse_equal_rows(spec, self._split_opened("train"), self._split_opened("validation"))
        if spec.label is not None:
            self.num_classes, self.class_names = _num_classes(self.opened, spec.label)
        self._number_of: dict[str, int] = {}

    def _split_opened(self, split: Split) -> Any:
        """What holds the rows of a split, whichever one this is."""
        wanted = self.spec.split if split == "train" else self.spec.validation_split
        return self.opened if split == self.split else _opened(self.spec, str(wanted))

    def _chosen(self, count: int) -> list[int]:
        """Rows of the source that belong to this split."""
        if self.spec.validation_split is not None:
            return list(range(count))
        wanted = self.split == "validation"
        chosen = [row for row in range(count) if _is_validation(row, self.spec.validation_share) == wanted]
        if not chosen:
            raise DataError(f"no {self.split} examples in the {count} of {self.spec.path!r}")
        return chosen

    def _example(self, row: Mapping[str, Any], number: int, generator: torch.Generator | None) -> Example:
        name = f"{self.spec.path} ({self.source}) row {number}"
        image = read_rgb(_content(row, self.spec, name), name)
        data = image_view(image, self.spec, generator if self.split == "train" else None, name)
        if self.spec.label is None:
            return Example(data=data)
        label = row[self.spec.label]
        label = self._number_of.get(label, label) if isinstance(label, str) else label
        label = int(label) if isinstance(label, bool) else label
        if not isinstance(label, int) or not 0 <= label < (self.num_classes or 0):
            raise UnreadableExample(f"{name}: label {label!r}; expected a number below {self.num_classes}")
        return Example(data=data, label=label)


class HuggingFaceTable(_HuggingFaceImages):
    """A set on this machine's disk: any row at any time."""

    def __init__(self, spec: HuggingFaceSpec, split: Split) -> None:
        super().__init__(spec, split)
        self.rows = self._chosen(len(self.opened))
        if spec.label is not None and self.num_classes is None:
            self._count_classes(list(self.opened[spec.label]), spec.label)

    def _count_classes(self, labels: list[Any], column: str) -> None:
        """The classes of a column without a ClassLabel: numbers as they are, words by their place in sorted order."""
        label_names = sorted({label for label in labels if isinstance(label, str)})
        numbers = [int(label) for label in labels if isinstance(label, int)]
        if label_names and not numbers:
            self.class_names, self.num_classes = label_names, len(label_names)
            self._number_of = {word: number for number, word in enumerate(label_names)}
            if self.split == "train":
                some = ", ".join(f"{word!r} is {number}" for word, number in list(self._number_of.items())[:3])
                print(
                    f"note: column {column!r} of {self.spec.path!r} holds words; they are numbered in sorted order:"
                    f" {some}{', ...' if len(label_names) > 3 else ''}",
                    file=sys.stderr,
                )
        elif numbers and not label_names:
            self.num_classes = 1 + max(numbers)
        else:
            kinds = ", ".join(sorted({type(label).__name__ for label in labels})) or "nothing"
            raise DataError(f"column {column!r} of {self.spec.path!r} holds {kinds}; expected numbers or words")

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        number = self.rows[index]
        with reading(f"row {number} of dataset", self.spec.path, UnreadableExample):
            row = self.opened[number]
        return self._example(row, number, generator)


class HuggingFaceStream(_HuggingFaceImages):
    """A set that is read shard by shard. Rows are counted once, when it is opened for the first time.

    Its epochs go through the shards in random order, and through each shard's rows in random order.
    """

    def __init__(self, spec: HuggingFaceSpec, split: Split) -> None:
        super().__init__(spec, split)
        identity = (spec.path, spec.name, spec.revision, self.source, *_files_of(spec))
        self.shards = StreamedShards(self.opened, spec.label or spec.image, identity)
        self.rows = self._chosen(self.shards.num_rows)
        if spec.label is not None and self.num_classes is None:
            raise DataError(
                f"column {spec.label!r} of {spec.path!r} is not a ClassLabel, and a stream does not tell its largest"
                " number; leave 'streaming' out"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, generator: torch.Generator) -> torch.Tensor:
        return self.shards.order(self.rows, generator)

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        number = self.rows[index]
        return self._example(self.shards.row(number), number, generator)


def open_huggingface(spec: HuggingFaceSpec, context: BuildContext, split: Split) -> Dataset:
    """The set of a spec, streamed or from disk.

    Raises:
        DataError: it cannot be opened, or lacks a split, a column or examples.
    """
    return HuggingFaceStream(spec, split) if spec.streaming else HuggingFaceTable(spec, split)
