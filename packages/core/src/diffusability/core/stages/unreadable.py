"""Files that could not be read: named, counted, and too many of them an error."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from diffusability.core.contracts.dataset import Dataset
from diffusability.core.errors import DataError


class UnreadableFiles:
    """Reports each unreadable file once, on the console and in ``unreadable.txt``.

    With ``writes=False`` it only counts: for ranks that get the same reports as the one that writes.
    """

    def __init__(self, directory: Path, dataset: Dataset, console: Console, *, writes: bool = True) -> None:
        self.path = directory / "unreadable.txt"
        self.dataset = dataset
        self.console = console
        self.writes = writes
        written = self.path.read_text("utf-8", "replace") if self.path.is_file() else ""
        self.seen = set(written.split("\n")) - {""}

    def report(self, reports: Sequence[str]) -> None:
        """Takes note of reports.

        Raises:
            DataError: more than the dataset's ``max_unreadable_share`` of its examples cannot be read.
        """
        for report in reports:  # bytes of a file's name that are not UTF-8 are written as \\udcXX
            text = " ".join(report.split()).encode("utf-8", "backslashreplace").decode()
            if text in self.seen:
                continue
            self.seen.add(text)
            if not self.writes:
                continue
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
            self.console.print(f"[yellow]unreadable:[/yellow] {escape(text)}", highlight=False)
        if len(self.seen) > self.dataset.max_unreadable_share * len(self.dataset):
            raise DataError(
                f"{len(self.seen)} of {len(self.dataset)} examples cannot be read, more than the share"
                f" {self.dataset.max_unreadable_share} that is allowed; they are named in {str(self.path)!r}"
            )

    def __len__(self) -> int:
        return len(self.seen)
