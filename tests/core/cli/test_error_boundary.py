import sys
from pathlib import Path

import datasets
import pytest
from pydantic import ValidationError

from diffusability.core.cli import app as cli
from diffusability.core.data.huggingface import HuggingFaceTable
from diffusability.core.data.video.video_index_cache import _cache_path
from diffusability.core.errors import DataError, DiffusabilityError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.plugins import registry
from diffusability.core.published_weights import PublishedSnapshot, hub_checkpoints
from diffusability.core.reading import reading, user_cache
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.specs.base import _paths_of
from diffusability.core.specs.components import SPEC_BASES, AutoencoderSpec, DatasetSpec
from diffusability.core.specs.files.contents import contents
from diffusability.core.specs.files.file_tree import FileSet


def outcome(monkeypatch, error, debug=False):
    """The exit code of a command that raises an error."""

    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    return cli._exit_code_of_command(debug)


def test_a_bug_is_said_to_be_ours_with_a_report(monkeypatch, tmp_path, capsys):
    """No traceback on the terminal; a file with it, with the command and the versions."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["dfz", "check", "x.yaml"])
    assert outcome(monkeypatch, KeyError("some key")) == 1
    said = capsys.readouterr().err
    assert "this is a bug in diffusability, not your mistake: KeyError: 'some key'" in said
    assert "Traceback" not in said
    (report,) = tmp_path.glob("diffusability-bug-*.txt")
    assert str(report) in said
    text = report.read_text()
    assert all(part in text for part in ("Traceback", "some key", "x.yaml", "torch", "diffusability-core"))
    assert "/typer/" not in text
    assert outcome(monkeypatch, KeyError("some key"), debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "x", "/a/b"), OSError(30, "x", "/a/b"), OSError(36, "x", "/a/b"), OSError(5, "x", "/a/b")],
)
def test_what_the_disk_refuses_is_no_bug(monkeypatch, capsys, error):
    """Rights, a read-only disk, a name that is too long, a failing disk: the reason and the path."""
    assert outcome(monkeypatch, error) == 1
    said = capsys.readouterr().err
    assert "'/a/b'" in said
    assert "bug" not in said


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path):
    """A file in its place stands for a read-only disk, which root does not meet."""
    (tmp_path / "runs").write_text("")
    with (
        pytest.raises(DiffusabilityError, match="cannot be written: Not a directory"),
        RunFolder(tmp_path / "runs/a").locked(),
    ):
        pass


def test_the_boundary_names_file_and_reason(tmp_path):
    """What libraries raise becomes ours; ours and warnings pass."""
    with (
        pytest.raises(DataError, match="table '/a' cannot be read: ZeroDivisionError"),
        reading("table", "/a"),
    ):
        1 / 0
    with pytest.raises(DataError, match="'k' is missing"), reading("table", "/a"):
        {}["k"]
    with pytest.raises(UserWarning), reading("table", "/a"):
        raise UserWarning


def test_bytes_that_are_not_utf_8_have_a_seed_of_their_own():
    """As Python represents them in names of files."""
    assert derived_seed("validation", "caf\udce9.png") != derived_seed("validation", "cafe.png")


def test_without_a_home_nothing_is_kept(monkeypatch, tmp_path):
    """A container's user without an entry: files are read each time, and published weights are looked for in vain."""
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def none(self):
        raise RuntimeError

    monkeypatch.setattr(Path, "expanduser", none)
    assert user_cache("x") is None
    (tmp_path / "a").write_bytes(b"1")
    files = FileSet(root=tmp_path, names=["a"])
    assert contents(files).digest == contents(files).digest
    assert _cache_path(tmp_path / "a") is None
    assert hub_checkpoints().name == "checkpoints"
    with pytest.raises(ValueError, match="Hugging Face's cache does not hold them"):
        PublishedSnapshot(purpose="features", repository="a/b", size_mib=1).locate()


def test_home_is_written_out_in_every_path_of_every_spec(monkeypatch, tmp_path):
    """All fields of all installed specs that hold a path, found by their type or mark."""
    monkeypatch.setenv("HOME", str(tmp_path))
    expanded = {}
    for group, base in SPEC_BASES.items():
        for kind in registry.kinds(group):
            spec_class = registry.load(group, kind, base)
            for name in _paths_of(spec_class):
                expanded[group, kind, name] = spec_class._expand_home({"kind": kind, name: "~/photos"})[name]
    assert len(expanded) >= 15
    assert set(expanded.values()) == {str(tmp_path / "photos")}
    spec = DatasetSpec.model_validate({"kind": "image-folder", "path": "~/photos", "resolution": 8})
    assert spec.path == tmp_path / "photos"
    with pytest.raises(ValidationError, match=str(tmp_path)):
        AutoencoderSpec.model_validate({"kind": "taesd", "path": "~/taesd"})


@pytest.mark.parametrize(
    ("word", "expanded"), [("--runs=~/r", "--runs={}/r"), ("a=~/r", "a=~/r"), ("--x=a~", "--x=a~")]
)
def test_home_in_an_option_is_written_out(monkeypatch, tmp_path, word, expanded):
    """Most shells leave ``--runs=~/x`` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli._with_home(word) == expanded.format(tmp_path)


def test_words_as_labels_of_a_table_are_numbered_in_sorted_order(tmp_path, capsys):
    """Against Python's sort; mixed columns are refused."""
    image = {"bytes": b"x", "path": None}
    features = datasets.Features({"image": datasets.Image(), "animal": datasets.Value("string")})
    animals = ["dog", "ant", "cat", "dog"]
    datasets.Dataset.from_dict({"image": [image] * 4, "animal": animals}, features=features).save_to_disk(
        tmp_path / "t"
    )
    spec = DatasetSpec.model_validate(
        {
            "kind": "huggingface",
            "path": str(tmp_path / "t"),
            "label": "animal",
            "resolution": 8,
        }
    )
    capsys.readouterr()
    table = HuggingFaceTable(spec, "train")
    assert table.class_names == ["ant", "cat", "dog"]
    assert table.num_classes == 3
    assert [table._number_of[word] for word in animals] == [2, 0, 1, 2]
    assert "numbered in sorted order: 'ant' is 0, 'cat' is 1, 'dog' is 2" in capsys.readouterr().err
    with pytest.raises(DataError, match="holds int, str"):
        table._count_classes(["a", 1], "animal")
