"""Says an error once, however many ranks have run into it."""

import sys
import traceback

from rich.console import Console

from diffusability.core.cli.bug_report import culprit, without_callers, write_report
from diffusability.core.engine.launched import launched_rank
from diffusability.core.errors import DiffusabilityError, RankLostError, StoppedOnRequest


def show_error(error: DiffusabilityError, debug: bool) -> None:
    """Prints an error for users, on one rank; with ``debug``, also its traceback, on all ranks."""
    if debug:
        traceback.print_exception(error)
    if not _is_to_speak(error):
        return
    console = Console(stderr=True, soft_wrap=True)
    for line in str(error).splitlines():
        console.print(_label(error), end=" ")
        console.print(printable(line), markup=False, highlight=False)


def show_bug(error: Exception, debug: bool) -> None:
    """Says that an error is nobody's mistake, and where a report of it lies; one that all ranks have, a single time."""
    if not _is_to_speak(error):
        print(f"another rank failed too: {type(error).__name__}", file=sys.stderr)
        return
    package, place = culprit(error)
    report = write_report(error)
    if debug or report is None:
        traceback.print_exception(error.with_traceback(without_callers(error.__traceback__)))
    whose = "diffusability" if package == "diffusability" else f"the plugin package {package!r}"
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    lines = [f"this is a bug in {whose}, not your mistake: {reason} (at {place})"]
    # a plugin's name is what a user looks for
    lines += [note for note in getattr(error, "__notes__", ()) if note.startswith("in ")]
    if report is not None:
        lines.append(f"everything needed to report it, with the traceback, is in {str(report)!r}; --debug shows it")
    console = Console(stderr=True, soft_wrap=True)
    for line in lines:
        console.print("[bold red]error:[/bold red]", end=" ")
        console.print(printable(line), markup=False, highlight=False)


def printable(text: str) -> str:
    """A line that any terminal takes: what is not UTF-8 in names of files as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _label(error: DiffusabilityError) -> str:
    if isinstance(error, RankLostError):
        return "[dim]note:[/dim]"
    return "[bold red]stopped:[/bold red]" if isinstance(error, StoppedOnRequest) else "[bold red]error:[/bold red]"


def _is_to_speak(error: Exception) -> bool:
    if isinstance(error, StoppedOnRequest):  # all ranks stop together; the first knows best what was kept
        launched = launched_rank()
        return launched is None or launched.rank == 0
    if "torch.distributed" not in sys.modules:
        return True
    from diffusability.core.engine import distributed

    # A lost rank is a consequence: it must not take the word from the error that is its cause.
    return distributed.is_first(type(error).__name__ if isinstance(error, DiffusabilityError) else "bug")
