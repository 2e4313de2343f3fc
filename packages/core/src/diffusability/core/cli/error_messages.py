"""Says an error once, however many ranks have run into it."""

import sys
import traceback
from types import TracebackType

from rich.console import Console

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
        console.print(line, markup=False, highlight=False)


def show_bug(error: Exception) -> None:
    """Prints the traceback of an error that is nobody's mistake; of one that all ranks have, a single time."""
    if _is_to_speak(error):
        traceback.print_exception(type(error), error, _without_typer(error.__traceback__))
        for note in getattr(error, "__notes__", ()):
            if note.startswith("in "):  # the traceback ends with its notes; a plugin's name is what a user looks for
                print(f"error: {type(error).__name__} {note}", file=sys.stderr)
    else:
        print(f"another rank failed too: {type(error).__name__}", file=sys.stderr)


def _without_typer(frames: TracebackType | None) -> TracebackType | None:
    """The frames from the command's own function on: typer and click call it, and say nothing about an error."""
    first = frames
    while frames is not None:
        if frames.tb_frame.f_globals.get("__name__", "").partition(".")[0] in ("typer", "click"):
            first = frames.tb_next
        frames = frames.tb_next
    return first


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
