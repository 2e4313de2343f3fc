"""Starts local ranks with torch's elastic launcher, hands signals on to them, and says how they ended."""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from diffusability.core.errors import DiffusabilityError, StoppedOnRequest
from diffusability.core.run.waiting_threads import available_cores, let_threads_sleep

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import PContext
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

#: Handed on to the ranks, which save and end.
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)

#: A rank that was still at work this many seconds after another's end was killed for that, not by itself.
_TOGETHER_S = 5


class RankFailed(DiffusabilityError):
    """A rank ended with an error, which it has printed itself unless it was killed."""


def launch(num_ranks: int, num_workers: int = 0) -> None:
    """Runs this very command on ``num_ranks`` local processes, each with its share of the cores.

    ``num_workers`` is the number of loading processes of each.

    The first rank that fails ends the others. A signal reaches all ranks; they have all the time that they need to
    finish a step and to save.

    Raises:
        RankFailed: a rank ended with an error or was killed; has the exit code of the kind of error.
        StoppedOnRequest: a signal came before there was anything to save.
        SystemExit: with status 75 once the ranks have saved and said so.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // num_ranks)))
    say_waiting(let_threads_sleep(1, num_ranks, num_workers=num_workers))
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"  # the others are handed on below
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    # Kept here, the store outlives every rank, and its port cannot be taken by another process meanwhile.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    with _forwarding() as forwarding:
        context = start_processes(
            name="dfz",
            entrypoint=sys.executable,
            args=dict.fromkeys(range(num_ranks), ("-m", "diffusability.core.cli", *sys.argv[1:])),
            envs={rank: {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_ranks)},
            logs_specs=DefaultLogsSpecs(),
        )
        forwarding.to(context)
        result = context.wait(period=0.2)
    assert result is not None
    if result.failures:
        raise _ending(result.failures, num_ranks, forwarding.received)


def say_waiting(reason: str | None) -> None:
    """Prints why waiting threads sleep, if they do."""
    if reason is not None:
        print(f"note: {reason}", file=sys.stderr, flush=True)


class _Forwarding:
    """Hands signals on to ranks, also those that came before the ranks were there."""

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
        self.context: PContext | None = None

    def to(self, context: "PContext") -> None:
        self.context = context
        for number in self.received:
            self._send(number)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received.append(signal.Signals(number))
        self._send(number)

    def _send(self, number: int) -> None:
        for pid in self.context.pids().values() if self.context is not None else ():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


@contextmanager
def _forwarding() -> Iterator[_Forwarding]:
    forwarding = _Forwarding()
    previous = {number: signal.signal(number, forwarding.on_signal) for number in FORWARDED}
    try:
        yield forwarding
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ending(failures: "Mapping[int, ProcessFailure]", num_ranks: int, received: list[signal.Signals]) -> BaseException:
    """What to raise for ranks that ended so; torch lists the first one first."""
    first = next(iter(failures.values()))
    codes = {rank: failure.exitcode for rank, failure in failures.items()}
    saved = StoppedOnRequest.exit_code
    if received and all(code == saved or -code in received for code in codes.values()) and saved not in codes.values():
        return StoppedOnRequest(f"stopped on {received[0].name} before the start; the same command starts again")
    killed = [
        rank
        for rank, failure in failures.items()
        if failure.exitcode < 0
        and failure.exitcode != -signal.SIGTERM
        and failure.timestamp - first.timestamp <= _TOGETHER_S
    ]
    if killed:
        name = signal.Signals(-codes[killed[0]]).name
        cause = " (was the host out of memory?)" if name == "SIGKILL" else ""
        return RankFailed(
            f"rank {killed[0]} of {num_ranks} was killed by {name}{cause}; the same command resumes from the last"
            " checkpoint"
        )
    if saved in codes.values():
        return SystemExit(saved)  # the first rank has said so
    failed = RankFailed(f"rank {first.local_rank} of {num_ranks} ended with an error; its message is above")
    failed.exit_code = max((code for code in codes.values() if code in (2, 130)), default=1)
    return failed
