"""Stopping on request: a signal asks, the work in hand is saved, the process ends with status 75."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import StoppedOnRequest

#: Signals that ask to save and end. SLURM announces the end of a job's time with SIGUSR1 (``--signal=USR1@120``).
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class _InterruptedAtOnce(BaseException):
    """Raised by a signal's handler inside ``at_once``; no ``except Exception`` of a library catches it."""


class StopRequest:
    """Remembers that SIGTERM, SIGINT or SIGUSR1 has come. A second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._at_once = False

    def __bool__(self) -> bool:
        return self.signal_name is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles the signals for the time of a ``with`` block.

        Once one has come, SIGTERM and SIGUSR1 stay ignored: the process is about to end, with a status of its own.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, signal.SIG_IGN if self and number != signal.SIGINT else handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Lets a signal end what stands in a ``with`` block where it is, such as a long walk over folders.

        For work that leaves nothing behind. The block ends without an error; ask afterwards whether a stop was wanted.
        """
        self._at_once = True
        try:
            yield
        except _InterruptedAtOnce:
            pass
        finally:
            self._at_once = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
        if self._at_once:
            raise _InterruptedAtOnce

    def raise_if_requested(self, saved: str) -> None:
        """Raises StoppedOnRequest once a signal has come; ``saved`` says what was kept."""
        if self:
            raise StoppedOnRequest(f"stopped on {self.signal_name}; {saved}; the same command resumes")

    def raise_together(self, ranks: Ranks, saved: str) -> None:
        """Raises StoppedOnRequest on all ranks once a signal has come to one; all ranks must call it."""
        if ranks.any(bool(self)):
            self.signal_name = self.signal_name or "a signal on another rank"
            self.raise_if_requested(saved)
