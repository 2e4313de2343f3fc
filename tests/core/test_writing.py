"""Files and folders that appear whole or not at all, and that nothing else writes them by hand."""

import re
import threading
from pathlib import Path

import pytest

from diffusability.core.writing import replacing, replacing_folder

ROOT = Path(__file__).resolve().parents[2]
#: Ranks fill the folder of a checkpoint together; damaged ones and stages whose files or digests changed are renamed.
MOVES = {"checkpoints.py", "changed_files.py", "earlier_stages.py", "writing.py"}


class Interrupted(BaseException):
    """As an interrupt from the keyboard: no Exception."""


def test_a_file_is_replaced_at_the_end_or_stays(tmp_path: Path) -> None:
    """The old content while the block runs, the new one after it, and the old one without a trace after an error."""
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(Interrupted), replacing(path) as partial:  # noqa: PT012 - both are of the block
        partial.write_text("half")
        raise Interrupted
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_the_error_of_a_block_that_wrote_nothing_is_the_blocks(tmp_path: Path) -> None:
    """Nothing to remove, or no folder to write into, does not hide what went wrong."""
    with pytest.raises(ValueError, match="first"), replacing(tmp_path / "a"):
        raise ValueError("first")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"\.a\.partial"), replacing(tmp_path / "file" / "a") as partial:
        partial.write_text("x")


def test_a_folder_is_replaced_with_all_that_was_in_it(tmp_path: Path) -> None:
    """What an earlier, killed process left is not among the new files; an error leaves the old ones."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "stale").write_text("")
    with pytest.raises(Interrupted), replacing_folder(folder) as partial:  # noqa: PT012 - both are of the block
        (partial / "new").write_text("")
        raise Interrupted
    assert [path.name for path in folder.iterdir()] == ["sub"]
    with replacing_folder(folder) as partial:
        (partial / "new").write_text("")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Eight threads write the same file at once: all succeed, and it holds what one of them wrote, in full."""
    path = tmp_path / "cache"
    start = threading.Barrier(8)
    failures = []

    def write(number: int) -> None:
        try:
            with replacing(path, shared=True) as partial:
                start.wait()
                partial.write_text(str(number) * 100_000)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    text = path.read_text()
    assert len(text) == 100_000
    assert len(set(text)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_moves_files_into_place_by_hand() -> None:
    """Every other module goes through this one; and one module alone reads the record of a run."""
    sources = {path: path.read_text() for path in ROOT.glob("packages/*/src/**/*.py")}
    moves = re.compile(r"\bos\.(replace|rename)\(|\bpartial\.(replace|rename)\(")
    assert {path.name for path, text in sources.items() if moves.search(text)} == MOVES
    assert [path.name for path, text in sources.items() if '"run.json"' in text] == ["run_record.py"]
