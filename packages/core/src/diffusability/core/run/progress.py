"""Progress bars on a terminal; on anything else, a line now and then."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

#: Seconds between lines where there is no terminal.
LINE_INTERVAL_S = 20.0


class StageProgress:
    """Progress of one stage, with a free text such as the loss beside the bar."""

    def __init__(self, console: Console, title: str, total: int, completed: int = 0) -> None:
        self.console = console
        self.title = title
        self.total = total
        self.first = completed
        self.started = time.monotonic()
        self.last_line = self.started
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(title, total=total, completed=completed, text="")

    def __enter__(self) -> "StageProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, completed: int, text: str = "", total: int | None = None) -> None:
        """Moves the bar; an empty text keeps the one that is shown, a total corrects it."""
        if total is not None and total != self.total:
            self.total = total
            self.bar.update(self.task, total=total)
        if text:
            self.bar.update(self.task, completed=completed, text=text)
        else:
            self.bar.update(self.task, completed=completed)
        now = time.monotonic()
        if not self.console.is_terminal and (now - self.last_line > LINE_INTERVAL_S or completed == self.total):
            self.last_line = now
            rate = (completed - self.first) / max(now - self.started, 1e-9)
            left = (self.total - completed) / rate if rate > 0 else float("nan")
            shown = self.bar.tasks[0].fields["text"]
            self.console.print(f"  {self.title}: {completed}/{self.total}  {shown}  {left:.0f} s left", markup=False)
