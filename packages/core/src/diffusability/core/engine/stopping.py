"""Stopping on request: a signal asks, the work in hand is saved, the process ends with status 75."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from diffusability.core.errors import StoppedOnRequest


class StopRequest:
    """Remembers that SIGTERM or SIGINT has come. A second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles the signals for the time of a ``with`` block."""
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name

    def raise_if_requested(self, saved: str) -> None:
        """Raises StoppedOnRequest once a signal has come; ``saved`` says what was kept."""
        if self:
            raise StoppedOnRequest(f"stopped on {self.signal_name}; {saved}; the same command resumes")
